"""The worker's image, as far as it can be tested without building it."""

import ast
import json
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
    pairs = [pair for instruction, value in stage if instruction == 'LABEL' for pair in shlex.split(value)]
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
    """Whether .dockerignore lets the build see a file. The last pattern that fits it or a folder above it decides."""
    sent = True
    for pattern in (REPOSITORY / '.dockerignore').read_text().splitlines():
        parts = [path, *(str(folder) for folder in Path(path).parents)]
        if pattern and not pattern.startswith('#') and any(fnmatch(part, pattern.lstrip('!')) for part in parts):
            sent = pattern.startswith('!')
    return sent


def list_code(path: Path) -> list[Path]:
    """A file itself, or all files below a folder; what Python leaves beside its modules is left out."""
    files = path.rglob('*') if path.is_dir() else [path]
    return [file for file in files if file.is_file() and '__pycache__' not in file.parts]


def find_imports() -> Iterator[str]:
    """Third-party modules that the worker's code imports, anywhere in it."""
    for file in (file for name in WORKER for file in list_code(REPOSITORY / name) if file.suffix == '.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition('.')[0]


def read_pins() -> dict[str, str]:
    """Distribution → version, of everything that pip installs into the image."""
    *_, from_pip = yaml.safe_load((REPOSITORY / 'environment.yml').read_text())['dependencies']
    return {canonicalize_name(name): version for name, version in (line.split('==') for line in from_pip['pip'])}


@pytest.fixture(scope='module')
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds of the checkout what the image's root holds."""
    root = tmp_path_factory.mktemp('image')
    for copy in (copy for copy in read_copies(read_stages('Dockerfile')[-1]) if copy.stage is None):
        [source], target = copy.sources, root / copy.destination.lstrip('/')
        if (REPOSITORY / source).is_dir():
            shutil.copytree(REPOSITORY / source, target, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(REPOSITORY / source, target)
    return root


def run_entry_command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The image's entry command with this Python for the image's, from a folder with no code in it."""
    _, script = read_command(read_stages('Dockerfile')[-1])
    command = [sys.executable, str(root / script.lstrip('/')), *arguments]
    return subprocess.run(command, cwd=root.parent, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize('dockerfile', IMAGES)
def test_the_labels_that_the_server_reads_stand_in_the_final_stage(dockerfile: str) -> None:
    *earlier, final = [read_labels(stage) for stage in read_stages(dockerfile)]
    assert not any(earlier)
    assert final['annotationShape'] == 'polygon'
    assert final['interfaceCategory'] == 'SAM'
    needed = ['isUPennContrastWorker', 'isAnnotationWorker', 'interfaceName', 'description', 'defaultToolName']
    assert all(final[label] for label in needed)


@pytest.mark.parametrize(('dockerfile', 'gpu', 'runtime'), [
    ('Dockerfile', 'true', 'nvidia_driver'),
    ('Dockerfile_M1', 'false', None),
])
def test_only_the_image_for_cuda_asks_for_a_gpu(dockerfile: str, gpu: str, runtime: str | None) -> None:
    labels = read_labels(read_stages(dockerfile)[-1])
    assert labels['isGPUWorker'] == gpu
    assert labels.get('com.nvidia.volumes.needed') == runtime


@pytest.mark.parametrize('dockerfile', [*IMAGES, 'tests/Dockerfile_Test'])
def test_every_file_to_copy_is_in_the_checkout_and_sent_to_the_build(dockerfile: str) -> None:
    copies = [copy for stage in read_stages(dockerfile) for copy in read_copies(stage) if copy.stage is None]
    assert copies
    for source in (source for copy in copies for source in copy.sources):
        files = list_code(REPOSITORY / source)
        assert files, f'{dockerfile} copies {source}, which is not there'
        for file in (str(file.relative_to(REPOSITORY)) for file in files):
            assert is_sent(file), f'.dockerignore keeps {file} from the build'


@pytest.mark.parametrize('path', ['.git/config', '.venv/bin/python', 'README.md', 'demo/dataset.py',
                                  'fewshot/__pycache__/models.cpython-311.pyc'])
def test_what_no_image_needs_is_not_sent_to_the_build(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize('dockerfile', IMAGES)
def test_the_final_stage_holds_environment_checkpoint_and_code_and_nothing_else(dockerfile: str) -> None:
    copies = read_copies(read_stages(dockerfile)[-1])
    assert sorted(source for copy in copies for source in copy.sources) == sorted(
        ['/opt/worker', f'/{VIT_H.file}', *WORKER])


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
    [size] = [re.findall(r'-eq (\d+)', value) for instruction, value in stage if instruction == 'RUN']
    assert size == [str(VIT_H.size)]
    final = read_copies(read_stages(dockerfile)[-1])
    assert Copy([download[-1]], f'/{VIT_H.file}', 'checkpoint') in final  # SAM_CHECKPOINT_DIR is / if it is not set


def test_everything_that_the_worker_imports_is_in_its_environment() -> None:
    distributions = packages_distributions()
    third_party = set(find_imports()) - sys.stdlib_module_names - {Path(name).stem for name in WORKER}
    assert {'torch', 'skimage', 'girder_client'} <= third_party
    pins = read_pins()
    for module in third_party:
        assert any(canonicalize_name(name) in pins for name in distributions[module]), f'no pin provides {module}'


def test_everything_in_the_environment_is_pinned() -> None:
    *from_conda, from_pip = yaml.safe_load((REPOSITORY / 'environment.yml').read_text())['dependencies']
    assert all(re.fullmatch(r'[\w-]+=\d+(\.\d+)+', line) for line in from_conda)
    assert all(re.fullmatch(r'[\w-]+==\d+(\.\d+)+', line) for line in from_pip['pip'])


def test_the_pins_are_within_the_ranges_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / 'pyproject.toml').read_text())['project']
    requirements = [Requirement(line) for line in project['dependencies']]
    pins = read_pins()
    assert {canonicalize_name(requirement.name) for requirement in requirements} == set(pins)
    for requirement in requirements:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_the_entry_command_answers_from_what_the_image_holds(image_root: Path) -> None:
    ended = run_entry_command(image_root, '--help')
    assert ended.returncode == 0, ended.stderr
    assert '--request' in ended.stdout


def test_the_entry_command_publishes_the_interface_from_what_the_image_holds(
        image_root: Path, start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(tmp_path)
    ended = run_entry_command(
        image_root, '--apiUrl', server.apiUrl, '--token', server.token, '--request', 'interface',
        '--parameters', '{"image": "sam_fewshot:latest"}')
    assert ended.returncode == 0, ended.stderr
    assert 'Training Tag' in server.client.get('worker_interface', parameters={'image': 'sam_fewshot:latest'})


def test_every_module_of_the_image_loads_from_what_the_image_holds(image_root: Path) -> None:
    modules = [file.relative_to(image_root) for file in list_code(image_root)]
    names = [str(module.with_suffix('')).replace('/', '.') for module in modules if module.stem != '__init__']
    code = (f'import importlib, sys; sys.path[0] = {str(image_root)!r}\n'
            f'for name in {names}: print(importlib.import_module(name).__file__)')
    ended = subprocess.run([sys.executable, '-c', code], cwd=image_root.parent, capture_output=True, text=True,
                           timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(names) > len(WORKER)
    assert all(line.startswith(str(image_root)) for line in ended.stdout.splitlines())


@pytest.mark.parametrize('dockerfile', [*IMAGES, 'tests/Dockerfile_Test'])
def test_hadolint_has_nothing_to_say(dockerfile: str) -> None:
    hadolint = Path(sys.executable).parent / 'hadolint'
    ended = subprocess.run([str(hadolint), '--no-color', dockerfile], cwd=REPOSITORY, capture_output=True, text=True,
                           check=False)
    assert (ended.returncode, ended.stdout) == (0, '')


def read_services(**environment: str) -> dict[str, dict]:
    """The services of docker-compose.yml, with the variables that it names filled in, or their defaults."""
    text = re.sub(r'\$\{(\w+):-([^}]*)\}', lambda match: environment.get(match[1], match[2]),
                  (REPOSITORY / 'docker-compose.yml').read_text())
    assert '${' not in text
    return yaml.safe_load(text)['services']


def read_build_commands(document: str) -> set[tuple[str, str]]:
    """(image, Dockerfile) of every `docker build` in a document."""
    found = re.findall(r'docker build --tag (\S+)(?: --file (\S+))? \.', (REPOSITORY / document).read_text())
    return {(image, dockerfile or 'Dockerfile') for image, dockerfile in found}


@pytest.mark.parametrize('environment', [{}, {'WORKER_DOCKERFILE': 'Dockerfile_M1'}])
def test_compose_builds_from_the_same_files_under_the_same_names_as_the_readme(environment: dict[str, str]) -> None:
    services = read_services(**environment)
    assert set(services) == {'sam_fewshot_segmentation', 'sam_fewshot_segmentation_test'}
    from_readme = read_build_commands('README.md')
    assert len(from_readme) == 3
    for service in services.values():
        build = service['build']
        assert (REPOSITORY / build['context']).resolve() == REPOSITORY
        assert (REPOSITORY / build['dockerfile']).is_file()
        assert (service['image'].removesuffix(':latest'), build['dockerfile']) in from_readme
    assert services['sam_fewshot_segmentation']['build']['dockerfile'] == environment.get(
        'WORKER_DOCKERFILE', 'Dockerfile')


def test_compose_runs_the_tests_on_the_image_that_it_builds_and_as_that_image_says() -> None:
    worker, tests = (read_services()[f'sam_fewshot_segmentation{end}'] for end in ('', '_test'))
    assert tests['build']['args'] == {'BASE': worker['image']}
    assert ('ARG', f'BASE={worker["image"]}') in [
        (line['instruction'], line['value'])
        for line in DockerfileParser(fileobj=(REPOSITORY / tests['build']['dockerfile']).open('rb')).structure]
    assert read_command(read_stages(tests['build']['dockerfile'])[-1])[1:3] == ['-m', 'pytest']
    assert not {'command', 'entrypoint'} & {*worker, *tests}
    assert 'profiles' not in worker and tests['profiles']  # the second cannot be built beside the first


def test_the_deployment_guide_shows_the_commands_of_the_readme_and_the_services_of_compose() -> None:
    guide = (REPOSITORY / 'docs/deployment.md').read_text()
    assert read_build_commands('docs/deployment.md') == read_build_commands('README.md')
    assert set(re.findall(r'docker compose run (?:--\w+ )*(\w+)', guide)) == {'sam_fewshot_segmentation_test'}
    assert all(f'`{name}`' in guide for name in read_services())


@pytest.mark.parametrize(('dockerfile', 'column'), [('Dockerfile', 1), ('Dockerfile_M1', 2)])
def test_the_deployment_guide_lists_the_labels_of_both_images(dockerfile: str, column: int) -> None:
    guide = (REPOSITORY / 'docs/deployment.md').read_text()
    table = guide.partition('\n## The labels')[2].partition('\n## ')[0]
    rows = [[cell.strip().strip('`') for cell in line.split('|')[1:-1]] for line in table.splitlines()
            if line.startswith('| `')]
    labels = {key: value for key, value in read_labels(read_stages(dockerfile)[-1]).items()
              if not key.startswith('org.opencontainers')}
    assert {row[0]: row[column] for row in rows if row[column] != 'not set'} == labels
