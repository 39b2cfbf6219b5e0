"""The worker's image, as far as it can be tested without building it."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fewshot.sam.checkpoints import VIT_H
from tests.conftest import StartServer

REPOSITORY = Path(__file__).parents[1]
IMAGES = ['Dockerfile', 'Dockerfile_M1']
TEST_IMAGE = 'tests/Dockerfile_Test'
TEST_COMMAND = 'docker run --rm $(docker build -q -f tests/Dockerfile_Test .)'
WORKER = ['entrypoint.py', 'fewshot', 'annotation_client']


@dataclass(frozen=True)
class Copy:
    """One COPY: what is copied where, and the stage it comes from (None: the checkout)."""

    sources: list[str]
    destination: str
    stage: str | None


Stage = list[tuple[str, str]]  # (instruction, value), the first one FROM


def read_stages(dockerfile: str) -> list[Stage]:
    stages: list[Stage] = []
    for line in DockerfileParser(fileobj=(REPOSITORY / dockerfile).open('rb')).structure:
        if line['instruction'] == 'FROM':
            stages.append([])
        if stages and line['instruction'] != 'COMMENT':
            stages[-1].append((line['instruction'], line['value']))
    return stages


def read_labels(stage: Stage) -> dict[str, str]:
    pairs = [
        pair
        for instruction, value in stage
        if instruction == 'LABEL'
        for pair in shlex.split(value)
    ]
    return {key: text for key, text in (pair.split('=', 1) for pair in pairs)}


def read_copies(stage: Stage) -> list[Copy]:
    copies = []
    for words in (value.split() for instruction, value in stage if instruction == 'COPY'):
        flags = dict(word[2:].split('=', 1) for word in words if word.startswith('--'))
        *sources, destination = (word for word in words if not word.startswith('--'))
        copies.append(Copy(sources, destination, flags.get('from')))
    return copies


def read_command(stage: Stage) -> list[str]:
    [command] = [json.loads(value) for instruction, value in stage if instruction == 'ENTRYPOINT']
    return command


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets the build see a file. The last pattern that fits decides."""
    sent = True
    for pattern in (REPOSITORY / '.dockerignore').read_text().splitlines():
        parts = [path, *(str(folder) for folder in Path(path).parents)]
        if (
            pattern
            and not pattern.startswith('#')
            and any(fnmatch(part, pattern.lstrip('!')) for part in parts)
        ):
            sent = pattern.startswith('!')
    return sent


def list_code(path: Path) -> list[Path]:
    """Return a file itself, or all files below a folder except Python's caches."""
    files = path.rglob('*') if path.is_dir() else [path]
    return [file for file in files if file.is_file() and '__pycache__' not in file.parts]


def find_imports() -> Iterator[str]:
    """Third-party modules that the worker's code imports, anywhere in it."""
    for file in (
        file for name in WORKER for file in list_code(REPOSITORY / name) if file.suffix == '.py'
    ):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition('.')[0]


def read_environment() -> tuple[list[str], set[str]]:
    """Return the packages of environment.yml from conda, and its distributions from PyPI."""
    environment = yaml.safe_load((REPOSITORY / 'environment.yml').read_text())
    *from_conda, from_pip = environment['dependencies']
    return from_conda, {canonicalize_name(name) for name in from_pip['pip']}


def read_lock() -> dict[str, str]:
    """Distribution → version, of requirements.lock."""
    lines = (REPOSITORY / 'requirements.lock').read_text().splitlines()
    return dict(line.split('==') for line in lines if not line.startswith('#'))


def copy_into(root: Path, stage: Stage) -> None:
    """Copy into a folder what a stage copies from the checkout and .dockerignore lets through."""
    for copy in (copy for copy in read_copies(stage) if copy.stage is None):
        for source in (REPOSITORY / name for name in copy.sources):
            to = root / copy.destination.strip('/')
            if source.is_file() and copy.destination.endswith('/'):
                to /= source.name
            for file in list_code(source):
                if is_sent(str(file.relative_to(REPOSITORY))):
                    target = to / file.relative_to(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, target)


@pytest.fixture(scope='module')
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with those files of the checkout that the image has."""
    root = tmp_path_factory.mktemp('image')
    copy_into(root, read_stages('Dockerfile')[-1])
    return root


@pytest.fixture(scope='module')
def test_image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds of the checkout what the test image's root holds."""
    root = tmp_path_factory.mktemp('test_image')
    for dockerfile in ('Dockerfile', TEST_IMAGE):
        copy_into(root, read_stages(dockerfile)[-1])
    return root


def find_paths(code: str) -> set[str]:
    """Every path that some code may name: each string, and strings joined by /."""
    paths = set()
    for node in ast.walk(ast.parse(code)):
        parts: list[str] = []
        while isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant):
            parts.insert(0, str(node.right.value))
            node = node.left
        if isinstance(node, ast.Constant):
            parts.insert(0, str(node.value))
        paths.add('/'.join(parts))
    return paths - {''}


def run_entry_command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the image's entry command with this Python, from a folder without code."""
    _, script = read_command(read_stages('Dockerfile')[-1])
    command = [sys.executable, str(root / script.lstrip('/')), *arguments]
    return subprocess.run(
        command, cwd=root.parent, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize('dockerfile', IMAGES)
def test_the_labels_that_the_server_reads_stand_in_the_final_stage(dockerfile: str) -> None:
    *earlier, final = [read_labels(stage) for stage in read_stages(dockerfile)]
    assert not any(earlier)
    assert final['annotationShape'] == 'polygon'
    assert final['interfaceCategory'] == 'SAM'
    needed = [
        'isUPennContrastWorker',
        'isAnnotationWorker',
        'interfaceName',
        'description',
        'defaultToolName',
    ]
    assert all(final[label] for label in needed)
    assert len(final['description']) <= 40  # the page cuts it off after that


@pytest.mark.parametrize(
    ('dockerfile', 'gpu', 'runtime'),
    [
        ('Dockerfile', 'true', 'nvidia_driver'),
        ('Dockerfile_M1', 'false', None),
    ],
)
def test_only_the_image_for_cuda_asks_for_a_gpu(
    dockerfile: str, gpu: str, runtime: str | None
) -> None:
    labels = read_labels(read_stages(dockerfile)[-1])
    assert labels['isGPUWorker'] == gpu
    assert labels.get('com.nvidia.volumes.needed') == runtime


@pytest.mark.parametrize('dockerfile', [*IMAGES, TEST_IMAGE])
def test_every_file_to_copy_is_in_the_checkout_and_sent_to_the_build(dockerfile: str) -> None:
    copies = [
        copy
        for stage in read_stages(dockerfile)
        for copy in read_copies(stage)
        if copy.stage is None
    ]
    assert copies
    for source in (source for copy in copies for source in copy.sources):
        files = list_code(REPOSITORY / source)
        assert files, f'{dockerfile} copies {source}, which is not there'
        for file in (str(file.relative_to(REPOSITORY)) for file in files):
            assert is_sent(file), f'.dockerignore keeps {file} from the build'


@pytest.mark.parametrize('dockerfile', [*IMAGES, TEST_IMAGE])
def test_what_is_copied_is_readable_whatever_the_rights_in_the_checkout(dockerfile: str) -> None:
    copies = [
        value
        for stage in read_stages(dockerfile)
        for instruction, value in stage
        if instruction in ('COPY', 'ADD')
    ]
    assert copies
    assert not [value for value in copies if not re.search(r'--chmod=(644|755) ', value)]


@pytest.mark.parametrize(
    'path',
    [
        '.git/config',
        '.venv/bin/python',
        'README.md',
        'demo/dataset.py',
        'fewshot/__pycache__/models.cpython-311.pyc',
    ],
)
def test_what_no_image_needs_is_not_sent_to_the_build(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize('dockerfile', IMAGES)
def test_the_final_stage_holds_environment_checkpoint_and_code_and_nothing_else(
    dockerfile: str,
) -> None:
    copies = read_copies(read_stages(dockerfile)[-1])
    assert sorted(source for copy in copies for source in copy.sources) == sorted(
        ['/opt/worker', f'/{VIT_H.file}', *WORKER]
    )


@pytest.mark.parametrize('dockerfile', IMAGES)
def test_the_worker_does_not_run_as_root(dockerfile: str) -> None:
    users = [value for instruction, value in read_stages(dockerfile)[-1] if instruction == 'USER']
    assert users[-1] not in ('0', 'root')


def test_both_images_carry_the_same_worker() -> None:
    x86, arm = (read_stages(dockerfile)[-1] for dockerfile in IMAGES)
    assert read_copies(x86) == read_copies(arm)
    assert read_command(x86) == read_command(arm)


@pytest.mark.parametrize('dockerfile', IMAGES)
def test_the_build_checks_the_checkpoint_that_the_worker_knows(dockerfile: str) -> None:
    [stage] = [stage for stage in read_stages(dockerfile) if stage[0][1].endswith(' AS checkpoint')]
    [download] = [value.split() for instruction, value in stage if instruction == 'ADD']
    assert f'--checksum=sha256:{VIT_H.sha256}' in download
    assert download[-2].endswith(f'/{VIT_H.file}')
    [size] = [
        re.findall(r'-eq (\d+)', value) for instruction, value in stage if instruction == 'RUN'
    ]
    assert size == [str(VIT_H.size)]
    final = read_copies(read_stages(dockerfile)[-1])
    assert (
        Copy([download[-1]], f'/{VIT_H.file}', 'checkpoint') in final
    )  # SAM_CHECKPOINT_DIR is / if it is not set


def test_everything_that_the_worker_imports_is_in_its_environment() -> None:
    distributions = packages_distributions()
    third_party = (
        set(find_imports()) - sys.stdlib_module_names - {Path(name).stem for name in WORKER}
    )
    assert {'torch', 'skimage', 'girder_client'} <= third_party
    _, from_pip = read_environment()
    for module in third_party:
        names = {canonicalize_name(name) for name in distributions[module]}
        assert names & from_pip, f'nothing provides {module}'


def test_everything_in_the_environment_is_pinned() -> None:
    from_conda, from_pip = read_environment()
    assert all(re.fullmatch(r'[\w-]+=\d+(\.\d+)+', line) for line in from_conda)
    assert from_pip <= set(read_lock())
    for dockerfile in IMAGES:
        stage, *_ = read_stages(dockerfile)
        settings = [value for instruction, value in stage if instruction == 'ENV']
        assert any('PIP_CONSTRAINT=/tmp/requirements.lock' in value for value in settings)
        assert Copy(['environment.yml', 'requirements.lock'], '/tmp/', None) in read_copies(stage)


def test_the_lock_fits_the_project() -> None:
    project = tomllib.loads((REPOSITORY / 'pyproject.toml').read_text())['project']
    extras = project['optional-dependencies']
    own, lock = [Requirement(line) for line in project['dependencies']], read_lock()
    assert {canonicalize_name(requirement.name) for requirement in own} == read_environment()[1]
    for requirement in [*own, *map(Requirement, [*extras['server'], *extras['test']])]:
        version = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f'{requirement}: run make lock'


def test_the_entry_command_answers_from_what_the_image_holds(image_root: Path) -> None:
    ended = run_entry_command(image_root, '--help')
    assert ended.returncode == 0, ended.stderr
    assert '--request' in ended.stdout


def test_the_entry_command_publishes_the_interface_from_what_the_image_holds(
    image_root: Path, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(tmp_path)
    ended = run_entry_command(
        image_root,
        '--apiUrl',
        server.apiUrl,
        '--token',
        server.token,
        '--request',
        'interface',
        '--parameters',
        '{"image": "sam_fewshot:latest"}',
    )
    assert ended.returncode == 0, ended.stderr
    assert 'Training Tag' in server.client.get(
        'worker_interface', parameters={'image': 'sam_fewshot:latest'}
    )


def test_every_module_of_the_image_loads_from_what_the_image_holds(image_root: Path) -> None:
    modules = [file.relative_to(image_root) for file in list_code(image_root)]
    names = [
        str(module.with_suffix('')).replace('/', '.')
        for module in modules
        if module.stem != '__init__'
    ]
    code = (
        f'import importlib, sys; sys.path[0] = {str(image_root)!r}\n'
        f'for name in {names}: print(importlib.import_module(name).__file__)'
    )
    ended = subprocess.run(
        [sys.executable, '-c', code],
        cwd=image_root.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(names) > len(WORKER)
    assert all(line.startswith(str(image_root)) for line in ended.stdout.splitlines())


def test_the_tests_of_the_image_load_from_what_it_holds(test_image_root: Path) -> None:
    _, *arguments = read_command(read_stages(TEST_IMAGE)[-1])
    command = [sys.executable, *arguments, '--collect-only', '-q']
    ended = subprocess.run(
        command, cwd=test_image_root, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert 'tests/fewshot/sam/test_model.py::' in ended.stdout


def test_no_test_reads_a_file_that_the_test_image_lacks(test_image_root: Path) -> None:
    _, *arguments = read_command(read_stages(TEST_IMAGE)[-1])
    ignored = [word.removeprefix('--ignore=') for word in arguments if word.startswith('--ignore=')]
    files = [
        file
        for file in test_image_root.rglob('tests/**/*.py')
        if not any(file.is_relative_to(test_image_root / name) for name in ignored)
    ]
    assert len(files) > 50
    missing = {
        f'{file.relative_to(test_image_root)}: {path}'
        for file in files
        for path in find_paths(file.read_text())
        if os.path.exists(REPOSITORY / path) and not os.path.exists(test_image_root / path)
    }
    assert not missing, 'Move these files to tests/data, or give temporary files another name.'


def test_paths_are_found_in_every_way_that_the_tests_write_them() -> None:
    code = """
image = tifffile.imread(REPOSITORY / 'demo' / 'dataset.py')[rows, columns].astype(float)
text = (REPOSITORY / 'docs/scale.md').read_text()
file = open('README.md')
"""
    assert {'demo/dataset.py', 'docs/scale.md', 'README.md'} <= find_paths(code)


def read_services(**environment: str) -> dict[str, dict]:
    """Return the services of docker-compose.yml, with its variables or their defaults filled in."""
    text = re.sub(
        r'\$\{(\w+):-([^}]*)\}',
        lambda match: environment.get(match[1], match[2]),
        (REPOSITORY / 'docker-compose.yml').read_text(),
    )
    assert '${' not in text
    return yaml.safe_load(text)['services']


def read_build_commands(document: str) -> set[tuple[str, str]]:
    """(image, Dockerfile) of every `docker build` in a document."""
    found = re.findall(
        r'docker build --tag (\S+)(?: --file (\S+))? \.', (REPOSITORY / document).read_text()
    )
    return {(image, dockerfile or 'Dockerfile') for image, dockerfile in found}


@pytest.mark.parametrize('environment', [{}, {'WORKER_DOCKERFILE': 'Dockerfile_M1'}])
def test_compose_builds_as_the_readme_does(environment: dict[str, str]) -> None:
    [(name, service)] = read_services(**environment).items()
    image, build = service['image'].removesuffix(':latest'), service['build']
    assert (REPOSITORY / build['context']).resolve() == REPOSITORY
    assert build['dockerfile'] == environment.get('WORKER_DOCKERFILE', 'Dockerfile')
    assert (image, build['dockerfile']) in read_build_commands('README.md')
    assert f'`{name}`' in (REPOSITORY / 'docs/deployment.md').read_text()


def test_the_tests_run_on_the_image_that_the_readme_builds() -> None:
    images = {image for image, _ in read_build_commands('README.md')}
    lines = DockerfileParser(fileobj=(REPOSITORY / TEST_IMAGE).open('rb')).structure
    [base] = [line['value'] for line in lines if line['instruction'] == 'ARG']
    assert {base} == {f'BASE={image}:latest' for image in images}
    assert read_command(read_stages(TEST_IMAGE)[-1])[1:3] == ['-m', 'pytest']


def test_all_documents_show_the_same_commands() -> None:
    assert {dockerfile for _, dockerfile in read_build_commands('README.md')} == set(IMAGES)
    assert read_build_commands('docs/deployment.md') == read_build_commands('README.md')
    for document in ('README.md', 'docs/deployment.md', TEST_IMAGE):
        assert TEST_COMMAND in (REPOSITORY / document).read_text()


@pytest.mark.parametrize(('dockerfile', 'column'), [('Dockerfile', 1), ('Dockerfile_M1', 2)])
def test_the_deployment_guide_lists_the_labels_of_both_images(dockerfile: str, column: int) -> None:
    guide = (REPOSITORY / 'docs/deployment.md').read_text()
    table = guide.partition('\n## The labels')[2].partition('\n## ')[0]
    rows = [
        [cell.strip().strip('`') for cell in line.split('|')[1:-1]]
        for line in table.splitlines()
        if line.startswith('| `')
    ]
    labels = {
        key: value
        for key, value in read_labels(read_stages(dockerfile)[-1]).items()
        if not key.startswith('org.opencontainers')
    }
    assert {row[0]: row[column] for row in rows if row[column] != 'not set'} == labels
