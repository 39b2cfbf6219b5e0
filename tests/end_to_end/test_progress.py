"""The line beside the bar during a long step."""

import queue

import entrypoint
from tests.end_to_end.stand_in import BrightSegmenter, outline_example, write_batch
from tests.worker import REPOSITORY, make_params


def test_line_is_repeated_while_the_model_loads(start_server, tmp_path, monkeypatch):
    lines: queue.Queue[tuple[float, str, str]] = queue.Queue()
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    monkeypatch.setattr(entrypoint, 'sendProgress', lambda *line: lines.put(line))
    write_batch(tmp_path)
    server = start_server(tmp_path)
    datasetId = server.datasets['cells']
    server.client.post('upenn_annotation/multiple', json=[outline_example(datasetId)])
    seen = []

    def load_slowly(*_):
        while len(seen) < 3:  # returns only if the line is repeated
            line = lines.get()
            if line[1] == 'Loading the model':
                seen.append(line)
        return BrightSegmenter()

    entrypoint.compute(
        datasetId,
        server.apiUrl,
        server.token,
        {**make_params(**{'Min Mask Area': 0}), 'tags': ['found']},
        load_segmenter=load_slowly,
    )
    assert len(set(seen)) == 1
    assert seen[0][:2] == (0, 'Loading the model')
    rest = [lines.get() for _ in range(lines.qsize())]
    assert rest[-1][:2] == (1, 'Done')
