"""The entrypoint: its names, what it loads, what it sends. Whole jobs are in end_to_end/."""

import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest

import entrypoint
from fewshot.errors import JobError
from fewshot.settings import FIELDS, build_interface
from tests.datasets import write_dataset
from tests.worker import NOWHERE, REPOSITORY, make_params, run_worker

HEAVY = {'torch', 'torchvision', 'segment_anything', 'skimage', 'shapely', 'cv2'}


def loaded_by(code: str) -> set[str]:
    """Names of the modules that a fresh Python has loaded after running some code."""
    code += '\nimport sys; print("\\n" + " ".join(sys.modules))'
    printed = subprocess.run(
        [sys.executable, '-c', code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return {name.partition('.')[0] for name in printed.stdout.splitlines()[-1].split()}


def test_importing_the_entrypoint_loads_nothing_heavy():
    assert not loaded_by('import entrypoint') & {*HEAVY, 'numpy'}


def test_answering_an_interface_request_loads_nothing_heavy():
    assert not loaded_by(
        'import sys, unittest.mock as mock, entrypoint\n'
        'sys.argv[1:] = ["--apiUrl", "http://a", "--token", "t", "--request", "interface",'
        ' "--parameters", \'{"image": "i"}\']\n'
        'with mock.patch("annotation_client.workers.UPennContrastWorkerPreviewClient"):\n'
        '    entrypoint.main()'
    ) & {*HEAVY, 'numpy'}


@pytest.mark.parametrize(
    'name',
    [
        'encode_image_with_sam1',
        'pool_features_with_mask',
        'annotation_to_mask',
        'ensure_rgb',
        'extract_crop_with_context',
    ],
)
def test_a_step_of_the_pipeline_can_be_taken_from_the_entrypoint(name):
    assert callable(getattr(entrypoint, name))
    assert name in entrypoint.__all__


def test_an_unknown_name_of_the_entrypoint_is_an_attribute_error():
    with pytest.raises(AttributeError, match='nonsense'):
        entrypoint.nonsense  # noqa: B018


def test_the_form_reaches_the_server(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8))
    server = start_server(tmp_path)
    ended = run_worker(
        'interface', {'image': 'lab/sam few-shot:latest'}, server.apiUrl, server.token
    )
    assert (ended.status, ended.messages) == (0, [])
    stored = server.client.get('worker_interface', parameters={'image': 'lab/sam few-shot:latest'})
    assert list(stored) == [field.name for field in FIELDS]
    assert stored['Model']['items'] == ['sam_vit_h_4b8939', 'sam_vit_mini2']
    assert {**stored['Model'], 'items': None} == {**build_interface()['Model'], 'items': None}


def test_an_interface_request_that_the_server_refuses_fails(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8))
    ended = run_worker('interface', {'image': 'a'}, start_server(tmp_path).apiUrl, 'wrong-token')
    assert ended.status != 0
    assert '401' in ended.log
    assert 'wrong-token' not in ended.log


@pytest.mark.parametrize(
    'params',
    [
        make_params(**{'Points per side': 3}),
        {**make_params(), 'channel': 9},  # only the dataset's metadata tells that this is wrong
    ],
)
def test_torch_is_not_loaded_before_the_job_is_checked(params, start_server, tmp_path):
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8))
    server = start_server(tmp_path)
    arguments = server.datasets['cells'], server.apiUrl, server.token
    assert not loaded_by(
        'import entrypoint, os\n'
        f'os.environ["SAM_CHECKPOINT_DIR"] = {str(REPOSITORY / "models")!r}\n'
        f'try: entrypoint.compute(*{arguments!r}, {params!r})\n'
        'except Exception as error: print(error)\n'
        'else: raise AssertionError'
    ) & {'torch', 'torchvision', 'segment_anything'}


def test_errors_go_out_through_the_name_in_the_entrypoint():
    with patch('entrypoint.sendError') as sent, pytest.raises(JobError):
        entrypoint.compute('d', NOWHERE, 't', make_params(**{'Training Tag': []}))
    sent.assert_called_once()


def test_checkpoint_is_looked_for_before_the_server_is_asked(monkeypatch, tmp_path):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(tmp_path))

    def refuse(*_: str) -> None:
        raise AssertionError('the server was asked')

    with patch('entrypoint.sendError') as sent, pytest.raises(JobError, match='checkpoint'):
        entrypoint.compute('d', NOWHERE, 't', make_params(), make_server=refuse)
    sent.assert_called_once()


def test_form_is_handed_over_under_the_images_name():
    with patch('annotation_client.workers.UPennContrastWorkerPreviewClient') as client:
        entrypoint.interface('lab/sam:latest', 'http://a', 'secret')
    client.assert_called_once_with(apiUrl='http://a', token='secret')
    client.return_value.setWorkerImageInterface.assert_called_once_with(
        'lab/sam:latest', build_interface()
    )


def test_unforeseen_failure_is_told_once_and_raised(monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))

    def fail(*_: str) -> None:
        raise ZeroDivisionError('division by zero')

    with patch('entrypoint.sendError') as sent, pytest.raises(ZeroDivisionError):
        entrypoint.compute('d', NOWHERE, 't', make_params(), make_server=fail)
    (message,) = sent.call_args.args
    assert message == 'division by zero'
    assert 'ZeroDivisionError' in sent.call_args.kwargs['info']
