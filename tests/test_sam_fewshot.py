"""The entrypoint: its names, what it loads, its messages, and how it goes about a job.

Whole jobs are in end_to_end/. A stand-in for the server serves here only where a test looks at what is sent, or when.
"""
import logging
import subprocess
import sys
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest

import entrypoint
from fewshot.frames import Coming, Frame, Piece
from fewshot.job import Job
from fewshot.page import Page
from fewshot.parameters import FIELDS, Location, build_interface
from fewshot.tally import Tally
from tests.datasets import write_dataset
from tests.worker import NOWHERE, REPOSITORY, make_params, run_worker

HEAVY = {'torch', 'torchvision', 'segment_anything', 'skimage', 'shapely', 'cv2'}


def loaded_by(code: str) -> set[str]:
    """Names of the modules that a fresh Python has loaded after running some code."""
    code += '\nimport sys; print("\\n" + " ".join(sys.modules))'
    printed = subprocess.run([sys.executable, '-c', code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {name.partition('.')[0] for name in printed.stdout.splitlines()[-1].split()}


def test_importing_the_entrypoint_loads_nothing_heavy():
    assert not loaded_by('import entrypoint') & {*HEAVY, 'numpy'}


def test_answering_an_interface_request_loads_nothing_heavy():
    assert not loaded_by(
        'import sys, unittest.mock as mock, entrypoint\n'
        'sys.argv[1:] = ["--apiUrl", "http://a", "--token", "t", "--request", "interface", "--parameters",'
        ' \'{"image": "i"}\']\n'
        'with mock.patch("annotation_client.workers.UPennContrastWorkerPreviewClient"): entrypoint.main()'
    ) & {*HEAVY, 'numpy'}


@pytest.mark.parametrize('name', ['encode_image_with_sam1', 'pool_features_with_mask', 'annotation_to_mask',
                                  'ensure_rgb', 'extract_crop_with_context'])
def test_a_step_of_the_pipeline_can_be_taken_from_the_entrypoint(name):
    assert callable(getattr(entrypoint, name))
    assert name in entrypoint.__all__


def test_an_unknown_name_of_the_entrypoint_is_an_attribute_error():
    with pytest.raises(AttributeError, match='nonsense'):
        entrypoint.nonsense  # noqa: B018


def test_the_form_reaches_the_server(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8))
    server = start_server(tmp_path)
    ended = run_worker('interface', {'image': 'lab/sam few-shot:latest'}, server.apiUrl, server.token)
    assert (ended.status, ended.messages) == (0, [])
    stored = server.client.get('worker_interface', parameters={'image': 'lab/sam few-shot:latest'})
    assert list(stored) == list(FIELDS)
    assert stored['Model']['items'] == ['sam_vit_h_4b8939', 'sam_vit_mini']
    assert {**stored['Model'], 'items': None} == {**build_interface()['Model'], 'items': None}


def test_an_interface_request_that_the_server_refuses_fails(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8))
    ended = run_worker('interface', {'image': 'a'}, start_server(tmp_path).apiUrl, 'wrong-token')
    assert ended.status != 0 and '401' in ended.log and 'wrong-token' not in ended.log


@pytest.mark.parametrize('params', [
    make_params(**{'Points per side': 3}),
    {**make_params(), 'channel': 9},  # only the dataset's metadata tells that this is wrong
])
def test_torch_is_not_loaded_before_the_job_is_checked(params):
    assert not loaded_by(
        'import entrypoint, os, unittest.mock as mock\n'
        f'os.environ["SAM_CHECKPOINT_DIR"] = {str(REPOSITORY / "models")!r}\n'
        'with (mock.patch("annotation_client.tiles.UPennContrastDataset", return_value=mock.Mock(tiles={})),\n'
        '      mock.patch("annotation_client.annotations.UPennContrastAnnotationClient")):\n'
        f'    try: entrypoint.compute("d", "http://a", "t", {params!r})\n'
        '    except ValueError as error: print(error)\n'
        '    else: raise AssertionError') & HEAVY


def test_errors_go_out_through_the_name_in_the_entrypoint():
    with patch('entrypoint.sendError') as sent, pytest.raises(ValueError):
        entrypoint.compute('d', NOWHERE, 't', make_params(**{'Training Tag': []}))
    sent.assert_called_once()


def test_the_checkpoint_is_looked_for_before_the_server_is_asked():
    with (patch('os.path.exists', return_value=False), patch('entrypoint.sendError') as sent,
          patch('annotation_client.tiles.UPennContrastDataset') as dataset,
          pytest.raises(FileNotFoundError, match='checkpoint')):
        entrypoint.compute('d', NOWHERE, 't', make_params())
    sent.assert_called_once()
    dataset.assert_not_called()


def test_the_form_is_handed_over_under_the_images_name():
    with patch('annotation_client.workers.UPennContrastWorkerPreviewClient') as client:
        entrypoint.interface('lab/sam:latest', 'http://a', 'secret')
    client.assert_called_once_with(apiUrl='http://a', token='secret')
    client.return_value.setWorkerImageInterface.assert_called_once_with('lab/sam:latest', build_interface())


def test_an_unforeseen_failure_is_told_once_and_raised():
    with (patch('entrypoint.run', side_effect=ZeroDivisionError('division by zero')),
          patch('entrypoint.sendError') as sent, pytest.raises(ZeroDivisionError)):
        entrypoint.compute('d', NOWHERE, 't', make_params())
    message, = sent.call_args.args
    assert message == 'division by zero' and 'ZeroDivisionError' in sent.call_args.kwargs['info']


def test_the_time_of_a_step_adds_up_and_counts_where_it_fails():
    tally = Tally()
    with tally.time('propose'):
        pass
    first = tally.seconds['propose']
    with pytest.raises(ValueError), tally.time('propose'):
        raise ValueError
    assert tally.seconds['propose'] >= first >= 0 and list(tally.seconds) == ['propose']


def test_warning_of_the_time_limit_survives_a_first_frame_that_fails():
    job = Job(Page(Mock(), Mock()))
    locations = [Location(xy, 0, 0) for xy in range(4)]
    job.begin(locations)
    job.forecast = Mock(frames=4, warn_of_limit=Mock(return_value=('too long', 'more jobs')))
    frame: Any = Frame(locations[0], np.zeros((4, 4, 3), np.uint8))
    loaded: list[Future] = [Future() for _ in locations]
    loaded[0].set_exception(OSError('the file is damaged'))
    for future in loaded[1:]:
        future.set_result(frame)
    incoming = [Coming(Piece(location), future) for location, future in zip(locations, loaded, strict=True)]
    entrypoint.search_batch(iter(incoming), 1, (4, 4), lambda *_: [], lambda *_: Mock(), job)
    assert [call.args[0] for call in job.page.sendWarning.call_args_list] == [
        'The frame XY 1, Z 1, Time 1 was left out', 'too long']
    assert job.forecast.note_frame.call_count == 3


def test_an_error_says_what_was_being_done():
    with pytest.raises(ZeroDivisionError) as caught, entrypoint.naming('loading the image of XY 3'):
        1 / 0  # noqa: B018
    assert caught.value.__notes__ == ['It happened while loading the image of XY 3.']


@pytest.mark.parametrize(('uploaded', 'frames', 'words'), [
    (1, 1, '1 object in 1 frame, similarity 0.91 to 0.91'), (12, 3, '12 objects in 3 frames, similarity 0.80 to 0.91'),
    (0, 2, '0 objects in 2 frames')])
def test_the_last_message_counts_objects_and_frames(uploaded, frames, words, caplog):
    sent, warned = Mock(), Mock()
    job = Job(Page(sent, warned), Tally(frames=frames, kept=uploaded))
    job.tally.note_uploaded([0.91, *[0.8] * 11][:uploaded])
    lesson: Any = SimpleNamespace(examples=[])
    with caplog.at_level(logging.INFO):
        entrypoint.finish(job, lesson, Mock(threshold=0.5))
    assert sent.call_args.args == (1.0, 'Done', words)
    assert warned.called == (uploaded == 0)
    assert 'job summary {' in caplog.text
