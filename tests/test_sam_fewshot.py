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
from fewshot.candidates import Candidate
from fewshot.crops import Box
from fewshot.duplicates import Found
from fewshot.masks import pack_mask
from fewshot.parameters import FIELDS, Location, build_interface
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
        'with mock.patch("annotation_client.tiles.UPennContrastDataset", return_value=mock.Mock(tiles={})):\n'
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
    tally = entrypoint.Tally()
    with tally.time('propose'):
        pass
    first = tally.seconds['propose']
    with pytest.raises(ValueError), tally.time('propose'):
        raise ValueError
    assert tally.seconds['propose'] >= first >= 0 and list(tally.seconds) == ['propose']


def test_progress_runs_from_the_examples_share_to_one_over_all_frames(capsys):
    with patch('entrypoint.sendProgress') as sent:
        for number in range(3):
            report = entrypoint.make_reporter(Location(number, 0, 4), (number, 0), (3, 1), None)
            report(0, 'a')
            report(1, 'b')
    shares = [call.args[0] for call in sent.call_args_list]
    assert shares == sorted(shares) and shares[0] == 0.05 and shares[-1] == 1
    assert sent.call_args_list[2].args[1:] == ('XY 2, Z 1, Time 5 (2 of 3)', 'a')


def test_progress_counts_tiles():
    with patch('entrypoint.sendProgress') as sent:
        for number in range(4):
            entrypoint.make_reporter(Location(1, 0, 0), (1, number), (2, 4), None)(0.5, 'Proposing')
    assert [call.args[2] for call in sent.call_args_list] == [f'Tile {tile} of 4. Proposing' for tile in (1, 2, 3, 4)]
    shares = [call.args[0] for call in sent.call_args_list]
    assert shares == sorted(shares) and shares[0] > 0.525 and shares[-1] < 1


def test_an_upload_that_has_failed_surfaces_at_the_next_step_of_the_next_frame():
    outgoing: Future = Future()
    report = entrypoint.make_reporter(Location(1, 0, 0), (1, 0), (3, 1), outgoing)
    report(0.1, 'the upload of the first frame is under way')
    outgoing.set_exception(ConnectionError('gone'))
    with pytest.raises(ConnectionError, match='gone'):
        report(0.2, 'it has failed')


def test_an_error_says_what_was_being_done():
    with pytest.raises(ZeroDivisionError) as caught, entrypoint.naming('loading the image of XY 3'):
        1 / 0  # noqa: B018
    assert caught.value.__notes__ == ['It happened while loading the image of XY 3.']


def keep(count: int) -> list[Found]:
    """So many candidates of 2 × 2 pixels."""
    return [Found(Candidate(Box(0, 0, 2, 2), pack_mask(np.ones((2, 2), bool)), 4, 0.9, 0.9), 0.8)] * count


def store_that_accepts() -> Mock:
    """A stand-in for the client of annotations: 2,500 real ones would only take time."""
    return Mock(createMultipleAnnotations=Mock(side_effect=lambda records: [{'_id': '1'}] * len(records)))


def upload(store: Mock, count: int, connect_to: dict | None = None) -> entrypoint.Tally:
    tally = entrypoint.Tally()
    parameters: Any = SimpleNamespace(smoothing=0, tags=('cell',), channel=0, connect_to=connect_to)
    entrypoint.upload(store, 'd', Location(0, 0, 0), keep(count), [], None, parameters, tally)
    return tally


def test_annotations_are_sent_by_the_thousand():
    store = store_that_accepts()
    assert upload(store, 2500).uploaded == 2500
    assert [len(call.args[0]) for call in store.createMultipleAnnotations.call_args_list] == [1000, 1000, 500]
    store.connectToNearest.assert_not_called()


def test_nothing_is_sent_when_nothing_was_kept():
    store = store_that_accepts()
    assert upload(store, 0, {'tags': ['nucleus'], 'channel': None}).uploaded == 0
    assert not store.method_calls


def test_every_batch_is_connected_where_the_job_says_so():
    store, connection = store_that_accepts(), {'tags': ['nucleus'], 'channel': None}
    upload(store, 1200, connection)
    assert [len(call.args[1]) for call in store.connectToNearest.call_args_list] == [1000, 200]
    assert all(call.args[0] == connection for call in store.connectToNearest.call_args_list)


@pytest.mark.parametrize(('uploaded', 'frames', 'words'), [
    (1, 1, '1 object in 1 frame'), (12, 3, '12 objects in 3 frames'), (0, 2, '0 objects in 2 frames')])
def test_the_last_message_counts_objects_and_frames(uploaded, frames, words, caplog):
    tally = entrypoint.Tally(uploaded=uploaded, frames=frames, kept=uploaded)
    tally.note_similarities([0.91, 0.8] if uploaded else [])
    lesson: Any = SimpleNamespace(examples=[])
    with (caplog.at_level(logging.INFO), patch('entrypoint.sendProgress') as sent,
          patch('entrypoint.sendWarning') as warned):
        entrypoint.finish(tally, lesson, Mock(threshold=0.5))
    similarity = ', similarity 0.80 to 0.91' if uploaded else ''
    assert sent.call_args.args == (1.0, 'Done', words + similarity)
    assert warned.called == (uploaded == 0)
    assert 'job summary {' in caplog.text
