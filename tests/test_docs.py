"""The documents: pages are fresh, named files exist, commands run, and the language is plain."""

import ast
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs import tables
from fewshot import messages
from fewshot.geometry import Location
from fewshot.reporting.state import JobState, Stopwatch
from fewshot.sam.checkpoints import KNOWN
from tests.conftest import StartServer
from tests.datasets import make_layer, write_dataset
from tests.small_model import CENTRES, draw_discs, outline_disc
from tests.worker import REPOSITORY

DOCS = REPOSITORY / 'docs'
PAGES = [
    *sorted(REPOSITORY.glob('*.md')),
    *sorted(DOCS.rglob('*.md')),
    REPOSITORY / 'demo/README.md',
    REPOSITORY / 'models/README.md',
    REPOSITORY / 'tests/data/README.md',
    REPOSITORY / 'tests/contract/README.md',
]
WORKER = [
    REPOSITORY / 'entrypoint.py',
    *REPOSITORY.glob('fewshot/**/*.py'),
    *REPOSITORY.glob('annotation_client/*.py'),
]
FOLDERS = [
    'annotation_page',
    'annotation_server',
    'benchmarks',
    'demo',
    'docs',
    'evaluation',
    'tests',
    'training',
]
CODE = [*WORKER, *(file for folder in FOLDERS for file in (REPOSITORY / folder).rglob('*.py'))]
MAX_README_LINES = 130

# Phrases that slow a reader down. Write short sentences: subject, verb, object.
TICS = re.compile(
    r"""\b(
        [Rr]eckon(s|ed|ing)? | [Ss]tands?\ in | (is|are)\ none | has\ nothing\ to\ say
        | nor\ was\ any | left\ out | doubles
        | [Ww]hat\ (is|was|has|it|they|of)\ [a-z\ ]{3,60}\ (is|are|was|were)
        | [0-9]\ s\ a\ (frame|point|job|tile)
        | (seconds|objects|requests|megabytes|jobs|lines)\ a\ (frame|point|job|second|day|tile|core)
    )\b
    | ,\ for\ (it|they|there)\b
    | (^|[.!?]\s)(What\ (is|was|has)|Of\ (two|those|what))\b""",
    re.VERBOSE | re.MULTILINE,
)


def read_section(page: str, title: str) -> str:
    """Return the text below a heading of a page, to the next one."""
    _, found, rest = (DOCS / page).read_text().partition(f'\n## {title}\n')
    assert found, f'{page} has no section {title}'
    return rest.partition('\n## ')[0]


def list_docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ''


def test_readme_is_short():
    assert len((REPOSITORY / 'README.md').read_text().splitlines()) <= MAX_README_LINES


# Generated pages


def test_generated_pages_are_fresh():
    stale = [
        path.name
        for path, text in tables.build_pages().items()
        if not path.exists() or path.read_text() != text
    ]
    assert not stale, 'Run make docs-tables.'


def test_every_message_is_on_the_page_of_messages():
    named = [name for _, names in tables.list_sections() for name in names]
    assert [getattr(messages, name) for name in named] == messages.list_messages()


def test_every_error_for_the_user_is_in_the_catalogue():
    makers = [
        str(file.relative_to(REPOSITORY))
        for file in WORKER
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'JobError'
    ]
    assert makers == ['fewshot/messages.py']


def test_names_in_braces_are_shown_in_italics():
    assert (
        tables.show_names('{field} is {number:,}|{other_name!r}')
        == r'*field* is *number*\|*other name*'
    )


def test_every_module_is_in_the_reference():
    pages = ''.join((DOCS / page).read_text() for page in tables.REFERENCE)
    modules = [
        file.relative_to(REPOSITORY).with_suffix('').parts
        for file in WORKER
        if file.name != '__init__.py'
    ]
    assert sorted(re.findall(r'^::: (\S+)$', pages, re.MULTILINE)) == sorted(
        '.'.join(parts) for parts in modules
    )


@pytest.mark.parametrize('file', WORKER, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_public_name_has_a_docstring(file: Path):
    """Without one it would be missing in the reference."""
    module = ast.parse(file.read_text())
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    bare = [
        node.name
        for body in (module.body, *(one.body for one in classes))
        for node in body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith('_')
        and not ast.get_docstring(node)
    ]
    assert not bare


def test_every_page_is_in_the_menu():
    menu = yaml.safe_load((REPOSITORY / 'mkdocs.yml').read_text())['nav']
    listed = re.findall(r'[\w/]+\.md', json.dumps(menu))
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob('*.md'))


# Facts


def test_reliability_table_names_a_test_for_every_fault():
    table = (DOCS / 'reliability.md').read_text()
    named = re.findall(r'`(tests/\S+\.py::[^`]+)` \|$', table, re.MULTILINE)
    assert len(named) >= 25
    assert len(set(named)) == len(named)
    rows = [line for line in table.splitlines() if line.startswith('|') and '**' not in line]
    assert len(rows) - 2 == len(named)
    files = sorted({name.partition('::')[0] for name in named})
    listed = subprocess.run(
        [sys.executable, '-m', 'pytest', '--collect-only', '-q', *files],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    known = {*listed, *(line.partition('[')[0] for line in listed)}
    assert not [name for name in named if name not in known]


def test_messages_of_the_connection_are_those_of_the_client():
    rows = re.findall(
        r'^\| \*(.+)\* \| .+ \| .+ \|$',
        read_section('messages.md', 'Messages of the connection'),
        re.M,
    )
    texts = set()
    for node in (node for file in WORKER for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.JoinedStr):
            texts.add(
                ''.join(
                    part.value if isinstance(part, ast.Constant) else '…' for part in node.values
                )
            )
        elif isinstance(node, ast.Constant):
            texts.add(node.value)
    assert len(rows) >= 8
    assert not [row for row in rows if row not in texts]


def test_deployment_page_names_the_keys_of_the_summary(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, 'sam_fewshot'):
        JobState([Location(0, 0, 0)], Stopwatch(lambda: 0.0)).log_summary()
    summary = json.loads(caplog.messages[-1].removeprefix('job summary '))
    rows = re.findall(
        r'^\| `(\w+)` \|', read_section('deployment.md', 'Reading the log'), re.MULTILINE
    )
    assert rows == list(summary)


def test_checkpoints_are_described_as_they_are():
    guide, card = (
        (DOCS / 'deployment.md').read_text(),
        (REPOSITORY / 'models/README.md').read_text(),
    )
    for checkpoint in KNOWN.values():
        text = guide if checkpoint.url else card
        assert checkpoint.file in text
        assert checkpoint.size is None or f'{checkpoint.size:,} bytes' in text
        assert (checkpoint.sha256 or checkpoint.xxh128 or '?') in text


def test_guide_names_every_model():
    table = read_section('guide.md', 'Choosing a model')
    assert not [name for name in KNOWN if f'`{name}`' not in table]


def test_imports_point_downwards_as_the_architecture_page_says():
    block = re.search(
        r'```text\n(entrypoint\n.*?)```', (DOCS / 'architecture.md').read_text(), re.DOTALL
    )
    assert block
    levels = {
        name: level
        for level, line in enumerate(block[1].split('\n'))
        for name in line.split(', ')
        if name
    }

    def place(module: str) -> str:
        """Return the longest name in the table that is the module or a folder above it."""
        name = module.removeprefix('fewshot.')
        return max((known for known in levels if f'{name}.'.startswith(f'{known}.')), key=len)

    upwards = []
    for file in WORKER:
        module = '.'.join(file.relative_to(REPOSITORY).with_suffix('').parts)
        if file.name == '__init__.py' or module.startswith('annotation_client'):
            continue
        for imported in list_imports(file):
            own, other = place(module), place(imported)
            if own != other and levels[own] >= levels[other]:
                upwards.append(f'{module} imports {imported}')
    assert not upwards


def test_the_worker_imports_only_what_its_image_has():
    pattern = re.compile(rf'^\s*(?:from|import) ({"|".join(FOLDERS)})\b', re.MULTILINE)
    assert [str(file) for file in WORKER if pattern.search(file.read_text())] == []


def list_imports(file: Path) -> Iterator[str]:
    """Yield the modules of fewshot that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith('fewshot'):
                for alias in names:
                    path = REPOSITORY / module.replace('.', '/') / f'{alias.name}.py'
                    yield f'{module}.{alias.name}' if path.exists() else module


# Names of files and commands


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_page_names_only_what_exists(page: Path):
    text = page.read_text()
    links = re.findall(r'\]\((?!https?:|#)([^)#]+)', text)
    assert not [link for link in links if not (page.parent / link).exists()]

    code = re.findall(r'`([^`\n]+)`', text) + re.findall(
        r'^```sh\n(.*?)^```', text, re.MULTILINE | re.DOTALL
    )
    folders = '|'.join(
        path.name for path in REPOSITORY.iterdir() if path.is_dir() and path.name[0] not in '._'
    )
    paths = {
        path for part in code for path in re.findall(rf'(?:^|\s)((?:{folders})/[\w/.]*\w)', part)
    }
    made = ('demo/out', 'site')  # by commands
    assert not [
        path for path in paths if not path.startswith(made) and not (REPOSITORY / path).exists()
    ]

    targets = re.findall(r'^([\w-]+):', (REPOSITORY / 'Makefile').read_text(), re.MULTILINE)
    assert not set(re.findall(r'(?:^|`)make ([a-z-]+)', text, re.MULTILINE)) - set(targets)
    modules = {name.replace('.', '/') for name in re.findall(r'python3? -m ([\w.]+)', text)} - {
        'pytest',
        'pip',
        'venv',
    }
    assert not [
        name
        for name in modules
        if not any((REPOSITORY / name).with_suffix(end).exists() for end in ('', '.py'))
    ]


def test_commands_of_the_deployment_page_run_a_job_by_hand(
    start_server: StartServer, tmp_path: Path
):
    data = tmp_path / 'data'
    data.mkdir()
    write_dataset(data, 'nuclei', draw_discs(CENTRES, 14)[0], [make_layer(0)])
    server = start_server(data)
    examples = [
        {
            'coordinates': outline_disc(row, column, 14),
            'tags': ['example'],
            'channel': 0,
            'shape': 'polygon',
            'location': {'XY': 0, 'Z': 0, 'Time': 0},
            'datasetId': server.datasets['nuclei'],
        }
        for row, column in CENTRES[:2]
    ]
    server.client.post('upenn_annotation/multiple', json=examples)
    server.stop()

    _, blocks = read_section('deployment.md', 'Running one job by hand').split('### Without Docker')
    parts = re.findall(r'^```sh\n(.*?)^```', blocks, re.MULTILINE | re.DOTALL)
    script = '\n'.join(['set -e', 'trap "kill \\$SERVER 2> /dev/null || true" EXIT', *parts])
    for text, replacement in (
        ('/tmp/', f'{tmp_path}/'),
        ('make demo\n', ''),
        ('demo/out/data', str(data)),
        ('--port 8080', '--port 0'),
        ('.venv/bin/python', sys.executable),
    ):
        assert text in script
        script = script.replace(text, replacement)
    ended = subprocess.run(
        ['bash', '-c', script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr

    shown = re.findall(r'XY 1, Z 1, Time 1: .*', read_section('deployment.md', 'Reading the log'))
    assert len(shown) == 1
    for line in shown:
        pattern = re.sub(r'\d+', r'\\d+', re.escape(line))
        assert len(re.findall(pattern, ended.stderr)) == 1
    assert '"frames": 1' in ended.stderr.partition('job summary ')[2]
    server = start_server(data)
    assert 'Training Tag' in server.client.get(
        'worker_interface', parameters={'image': 'sam-fewshot-worker:latest'}
    )
    found = server.client.get(
        'upenn_annotation',
        parameters={
            'datasetId': server.datasets['nuclei'],
            'tags': json.dumps(['by hand']),
            'limit': 0,
        },
    )
    assert len(found) >= 1  # the third disc; the examples are not added again


def test_diffs_of_the_contributing_page_add_a_message_a_field_and_a_model(tmp_path: Path):
    for name in ('fewshot', 'annotation_client', 'annotation_server', 'docs', 'models', 'tests'):
        shutil.copytree(
            REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__')
        )
    for name in ('entrypoint.py', 'pyproject.toml'):
        shutil.copy(REPOSITORY / name, tmp_path)
    diffs = re.findall(
        r'^```diff\n(.*?)^```', (DOCS / 'contributing.md').read_text(), re.MULTILINE | re.DOTALL
    )
    files = [re.findall(r'^\+\+\+ b/(.+)$', diff, re.MULTILINE) for diff in diffs]
    assert files == [
        ['fewshot/messages.py'],
        ['tests/fewshot/samples.py'],
        ['fewshot/settings.py'],
        ['fewshot/job.py'],
        ['tests/fewshot/test_settings.py'],
        ['fewshot/sam/checkpoints.py'],
    ]
    for diff in diffs:
        subprocess.run(['git', 'apply', '-'], input=diff, text=True, cwd=tmp_path, check=True)

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    tests = ['tests/fewshot/test_settings.py', 'tests/fewshot/test_messages.py']
    run('-m', 'pytest', '--numprocesses=0', '-p', 'no:cacheprovider', *tests)
    run('-m', 'docs.tables')
    assert '| Min Examples | 1 to 1,000 | 1 |' in (tmp_path / 'docs/guide.md').read_text()
    assert (
        'Only *count* polygons have the Training Tag.'
        in (tmp_path / 'docs/messages.md').read_text()
    )
    (tmp_path / 'vit_b_histopathology.pt').touch()
    form = f"""import os, fewshot.settings as settings
os.environ['SAM_CHECKPOINT_DIR'] = {str(tmp_path)!r}
print(settings.build_interface()['Model']['items'])"""
    assert 'vit_b_histopathology' in run('-c', form)


# Language


@pytest.mark.parametrize(
    'text',
    [
        'The time is reckoned.',
        'A fake stands in for it.',
        'What is more like them is left out.',
        'Of two masks one stays.',
        'It takes 3 s a frame.',
        'It is small, for it has no layer.',
    ],
)
def test_tics_are_found(text: str):
    assert TICS.search(text)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_pages_are_in_plain_english(page: Path):
    text = re.sub(r'^```.*?^```|`[^`\n]+`', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not [found[0] for found in TICS.finditer(text)]


def test_messages_and_tooltips_are_in_plain_english():
    texts = [text for one in messages.list_messages() for text in (one.text, one.hint, one.cause)]
    texts += [field.tooltip for field in tables.FIELDS]
    assert not [text for text in texts if TICS.search(text)]


def test_docstrings_are_in_plain_english():
    assert len(CODE) > 100
    odd = [
        f'{file.relative_to(REPOSITORY)}: {found[0]}'
        for file in CODE
        for text in list_docstrings(file)
        for found in TICS.finditer(text)
    ]
    assert not odd
