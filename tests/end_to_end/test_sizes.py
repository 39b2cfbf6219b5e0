"""A whole job with a model of the shapes of SAM ViT-B. Its weights are random."""

import hashlib
import json
from dataclasses import replace

import torch

import entrypoint
from fewshot.sam import segmenter
from fewshot.sam.checkpoints import VIT_B
from fewshot.sam.model import build_sam
from tests.datasets import make_layer, write_dataset
from tests.end_to_end.test_job import Lab, tag_disc
from tests.small_model import CENTRES, draw_discs
from tests.worker import make_params


def test_job_with_the_shapes_of_vit_b_uploads_outlines(start_server, tmp_path, monkeypatch, capsys):
    weights, data = tmp_path / 'weights', tmp_path / 'data'
    weights.mkdir()
    data.mkdir()
    path = weights / VIT_B.file
    torch.manual_seed(0)
    torch.save(build_sam(VIT_B).state_dict(), path)
    # The worker loads these weights as it loads the real ones, and keeps whatever they propose.
    checkpoint = replace(
        VIT_B,
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        pred_iou_thresh=-1e9,
        stability_score_thresh=-1,
    )
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(weights))
    write_dataset(data, 'cells', draw_discs(CENTRES, 14)[0], [make_layer(0)])
    lab = Lab(start_server(data))
    lab.annotate(tag_disc(lab.id, CENTRES[0]))

    entrypoint.compute(
        lab.id,
        lab.server.apiUrl,
        lab.server.token,
        # One encoding serves the example and the search: with one thread it takes 20 s.
        make_params(
            **{
                'Model': VIT_B.name,
                'Similarity Threshold': 0,
                'Min Mask Area': 0,
                'Speed': 'fastest',
            }
        ),
        load_segmenter=lambda settings, reporter: segmenter.load_segmenter(
            checkpoint,
            str(path),
            settings.precision,
            points_per_side=4,
            occupancy=settings.occupancy,
            whole_frame=settings.whole_frame,
        ),
    )
    (warning,) = [
        one
        for one in map(json.loads, capsys.readouterr().out.splitlines())
        if one.get('warning', '').startswith('No GPU')
    ]
    assert 'sam_vit_b_01ec64 with Speed fastest' in warning['info']
    made = lab.annotations('cell')
    assert made
    assert all(len(one['coordinates']) > 2 for one in made)
    assert (weights / f'{VIT_B.file}.checked').exists()
