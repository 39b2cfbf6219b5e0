"""The catalogue of messages, and the code that fills them."""

import ast
import re
import string
from collections.abc import Iterator

import pytest

from fewshot import messages
from fewshot.messages import ERROR, WARNING, Message
from fewshot.reporting.reporter import MAX_HINT_CHARACTERS, MAX_TEXT_CHARACTERS
from tests.fewshot.samples import SAMPLES
from tests.worker import REPOSITORY

CATALOGUE = {name: one for name, one in vars(messages).items() if isinstance(one, Message)}
# Ways to write that slow readers down.
TICS = re.compile(
    r'\b(reckoned|stands in|is none|such|has nothing to say|for they)\b|(^|\. )(What|Of two)\b'
)
SENTENCE_ENDS = ('.', '{reason}', '{explanation}')  # these two are sentences themselves


def placeholders_of(*texts: str) -> set[str]:
    parsed = [part for text in texts for part in string.Formatter().parse(text)]
    return {name for _, name, _, _ in parsed if name}


@pytest.mark.parametrize('message', CATALOGUE.values(), ids=CATALOGUE)
def test_message_is_well_written(message):
    for text in (message.text, message.hint, message.cause):
        assert text.endswith(SENTENCE_ENDS)
        assert not TICS.search(text)
        assert '  ' not in text
    assert message.kind in (ERROR, WARNING)


@pytest.mark.parametrize('name', CATALOGUE)
def test_message_fills(name):
    message, values = CATALOGUE[name], SAMPLES[name]
    assert set(values) == placeholders_of(message.text, message.hint)
    text, hint = message.fill(**values)
    error = message.error(**values)
    assert (error.message, error.hint) == (text, hint)
    assert hint
    assert not re.search('[{}]|None', text + hint)
    assert not placeholders_of(message.cause)


@pytest.mark.parametrize('name', CATALOGUE)
def test_filled_message_is_as_short_as_the_page_needs(name):
    values = SAMPLES[name]
    text, hint = CATALOGUE[name].fill(**values)
    assert len(text) <= MAX_TEXT_CHARACTERS
    # the page cuts a reason that is an answer of the server; the log has all of it
    assert len(hint) <= MAX_HINT_CHARACTERS or hint == values.get('reason')


def test_every_warning_has_a_priority():
    warned = {one for one in CATALOGUE.values() if one.kind == WARNING}
    assert sorted([*messages.PRIORITY, messages.FRAME_FAILED], key=str) == sorted(warned, key=str)
    assert set(messages.AT_ONCE) < set(messages.PRIORITY)


def test_value_with_braces_stays_as_it_is():
    assert messages.SHARE_UNREADABLE.fill(seen='{odd}')[0].endswith('cannot be read: {odd}.')


def test_texts_are_unique():
    texts = [message.text for message in CATALOGUE.values()]
    assert sorted(set(texts)) == sorted(texts)


def test_messages_are_listed_in_order():
    assert messages.list_messages() == list(CATALOGUE.values())


# The code that uses them


def list_uses() -> Iterator[tuple[str, str, ast.AST | None]]:
    """Yield (place, name of the message, call that fills it or None) for the whole worker."""
    files = [REPOSITORY / 'entrypoint.py', *sorted((REPOSITORY / 'fewshot').rglob('*.py'))]
    for file in files:
        tree = ast.parse(file.read_text())
        filled = {}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ('error', 'fill'):
                filled[node.func.value] = node  # messages.NAME.error(...)
            elif node.func.attr == 'warn' and node.args:
                filled[node.args[0]] = node  # reporter.warn(messages.NAME, ...)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == 'messages':
                yield f'{file.name}:{node.lineno}', node.attr, filled.get(node)


OTHER_CONSTANTS = ('ERROR', 'WARNING', 'AT_ONCE', 'PRIORITY')
USES = [use for use in list_uses() if use[1].isupper() and use[1] not in OTHER_CONSTANTS]


@pytest.mark.parametrize(
    ('name', 'call'),
    [use[1:] for use in USES if use[2] is not None],
    ids=[f'{place} {name}' for place, name, call in USES if call is not None],
)
def test_code_fills_the_message(name, call):
    message = CATALOGUE[name]
    given = {keyword.arg for keyword in call.keywords}
    assert given == placeholders_of(message.text, message.hint)


def test_every_message_is_used():
    assert len(USES) > 50
    assert set(CATALOGUE) == {name for _, name, _ in USES}
