"""What the documents say is so."""
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot.sam.checkpoints import VIT_H
from fewshot.tally import Tally
from tests.conftest import StartServer
from tests.datasets import make_layer, write_dataset
from tests.small_model import CENTRES, draw_discs, outline_disc
from tests.worker import REPOSITORY

GUIDE = REPOSITORY / 'docs/deployment.md'
# whose first argument is a message
SHOWN_BY = {'refuse', 'warn', 'sendError', 'sendWarning', 'ServerError', 'JobError'}
ERRORS = {'ValueError', 'RuntimeError', 'FileNotFoundError'}
SENTENCE = re.compile(r'[A-Z][a-z]* .*|.*[.?]')  # what is none is a phrase, which another message takes in


def test_every_fault_in_the_table_has_its_test_and_there_are_enough():
    table = (REPOSITORY / 'docs/reliability.md').read_text()
    named = re.findall(r'`(tests/\S+\.py::[^`]+)` \|$', table, re.MULTILINE)
    assert len(named) >= 25 and len(set(named)) == len(named)
    rows = [line for line in table.splitlines() if line.startswith('|') and '**' not in line]
    assert len(rows) - 2 == len(named)
    files = sorted({name.partition('::')[0] for name in named})
    listed = subprocess.run([sys.executable, '-m', 'pytest', '--collect-only', '-q', *files], cwd=REPOSITORY,
                            capture_output=True, text=True, check=True).stdout.splitlines()
    known = {*listed, *(line.partition('[')[0] for line in listed)}
    assert not [name for name in named if name not in known]


def text_of(node: ast.expr | None) -> str | None:
    """A string in the code with an ellipsis for whatever is filled in; None where it is no string."""
    match node:
        case ast.Constant(value=str(text)):
            found = text
        case ast.JoinedStr(values=parts):
            found = ''.join(str(part.value) if isinstance(part, ast.Constant) else '…' for part in parts)
        case ast.BinOp(left=left, op=ast.Add()) if text_of(left):
            found = f'{text_of(left)}…'
        case _:
            return None
    return re.sub('…+', '…', found)


def name_of(node: ast.AST) -> str:
    """What a call calls, without what stands before the dot; '' for what is no call."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, 'attr', getattr(function, 'id', ''))


def list_assigned(function: ast.AST) -> Iterator[tuple[str, str]]:
    """(name, text) of the strings that a function gives names to."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and (text := text_of(node.value)):
            yield node.targets[0].id, text


def find_messages(function: ast.AST) -> Iterator[str]:
    """What a function may show: its warnings, its errors, and what stands first in pairs of message and more."""
    assigned = list(list_assigned(function))
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args]
    explained = [call.args[0] for call in calls if name_of(call) == 'explain']
    for call in (call for call in calls if name_of(call) in SHOWN_BY | ERRORS):
        first = call.args[0]
        texts = [text for name, text in assigned if isinstance(first, ast.Name) and first.id == name]
        texts += filter(None, [text_of(first)])
        complete = name_of(call) in SHOWN_BY or call in explained
        yield from (text for text in texts if complete or SENTENCE.fullmatch(text))
    for pair in (node for node in ast.walk(function) if isinstance(node, ast.Tuple)):
        yield from [text for text in map(text_of, pair.elts) if text and re.match(r'[A-Z…]\S* .* ', text)][:1]


def list_messages() -> set[str]:
    """Every message in the worker's code, but for those made of others alone."""
    files = [REPOSITORY / 'entrypoint.py', *REPOSITORY.glob('fewshot/**/*.py'),
             *REPOSITORY.glob('annotation_client/*.py')]
    functions = [node for file in files for node in ast.walk(ast.parse(file.read_text()))
                 if isinstance(node, ast.FunctionDef)]
    return {text for function in functions for text in find_messages(function) if re.search('[a-z]{3}', text)}


def read_section(title: str) -> str:
    """The text of the deployment guide below a heading, to the next one."""
    _, found, rest = GUIDE.read_text().partition(f'\n## {title}\n')
    assert found, f'{GUIDE.name} has no section {title}'
    return rest.partition('\n## ')[0]


def test_messages_are_found_in_every_way_that_the_code_makes_them():
    code = """
def look(page, place):
    page.warn(f'{place} is odd', 'Title', 'Info')
    if place:
        raise explain(ValueError(f'{place}{page} is an odd {place}' + ('' if page else '!')), 'Seen')
    sentence = f'{place} is away.'
    if not place:
        raise ServerError(sentence)
    raise ValueError('a phrase within another message')
    return [('Pairs carry messages, too', 'Info that is none')]
"""
    assert set(find_messages(ast.parse(code))) == {
        '… is odd', '… is an odd …', '… is away.', 'Pairs carry messages, too'}


def test_every_message_of_the_worker_stands_in_the_table_and_no_other_does():
    rows = re.findall(r'^\| \*(.+?)\* \| (.+?) \| (.+?) \|$', read_section('Every message'), re.MULTILINE)
    in_table = [message for message, _, _ in rows]
    in_code = list_messages()
    assert len(in_code) >= 50
    lacking, beyond = sorted(in_code - set(in_table)), sorted(set(in_table) - in_code)
    assert not lacking, 'docs/deployment.md, "Every message", lacks the rows:\n' + '\n'.join(lacking)
    assert not beyond, 'docs/deployment.md has rows for messages that are not in the code:\n' + '\n'.join(beyond)
    assert len(in_table) == len(set(in_table))


def test_the_guide_names_the_keys_of_the_job_summary():
    rows = re.findall(r'^\| `(\w+)` \|', read_section('Reading the log'), re.MULTILINE)
    assert rows == list(vars(Tally()))


def test_the_guide_names_the_checkpoint_that_the_worker_checks():
    text = GUIDE.read_text()
    assert VIT_H.file in text and f'{VIT_H.size:,} bytes' in text and VIT_H.sha256 in text


def test_the_commands_of_the_guide_run_a_job_by_hand(start_server: StartServer, tmp_path: Path):
    data = tmp_path / 'data'
    data.mkdir()
    picture = draw_discs(CENTRES, 14)[0]
    write_dataset(data, 'nuclei', np.stack([picture, picture])[:, None, None, None], [make_layer(0)])
    server = start_server(data)
    examples = [{'coordinates': outline_disc(row, column, 14), 'tags': ['example'], 'channel': 0, 'shape': 'polygon',
                 'location': {'XY': 0, 'Z': 0, 'Time': 0}, 'datasetId': server.datasets['nuclei']}
                for row, column in CENTRES]
    server.client.post('upenn_annotation/multiple', json=examples)
    server.stop()

    _, blocks = read_section('Running one job by hand').split('### Without Docker')
    parts = re.findall(r'^```sh\n(.*?)^```', blocks, re.MULTILINE | re.DOTALL)
    script = '\n'.join(['set -e', 'trap "kill \\$SERVER 2> /dev/null || true" EXIT', *parts])
    for text, stand_in in (('/tmp/', f'{tmp_path}/'), ('make demo\n', ''), ('demo/out/data', str(data)),
                           ('--port 8080', '--port 0'), ('.venv/bin/python', sys.executable)):
        assert text in script
        script = script.replace(text, stand_in)
    ended = subprocess.run(['bash', '-c', script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
                           check=False)
    assert ended.returncode == 0, ended.stderr

    shown = re.search(r'XY 1, Z 1, Time 1: 12 candidates.*', read_section('Reading the log'))
    assert shown
    line = re.sub(r'\d+', r'\\d+', re.escape(shown[0]))
    assert len(re.findall(line, ended.stderr)) == 2
    assert '"frames": 2' in ended.stderr.partition('job summary ')[2]
    server = start_server(data)
    assert 'Training Tag' in server.client.get('worker_interface', parameters={'image': 'sam-fewshot-worker:latest'})
    found = server.client.get('upenn_annotation', parameters={
        'datasetId': server.datasets['nuclei'], 'tags': json.dumps(['by hand']), 'limit': 0})
    assert {one['location']['XY'] for one in found} == {1}  # the first holds the examples, which are not added again
