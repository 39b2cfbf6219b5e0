"""The model in training, at the sizes that `training.train` gives it.

The worker does not offer it yet. The demo and the tests use `sam_vit_mini`.
"""

from dataclasses import replace

from fewshot.sam.checkpoints import VIT_MINI

VIT_MINI2 = replace(
    VIT_MINI,
    name='sam_vit_mini2',
    input_size=512,
    patch_size=8,
    width=192,
    depth=6,
    heads=6,
    global_blocks=(5,),
    window=16,
    channels=96,
    decoder_width=384,
    decoder_heads=3,
    pred_iou_thresh=0.4,
    stability_score_thresh=0.5,
    box_nms_thresh=0.2,
    size=8_304_635,
    sha256='0ff360664e2474b0a9b09f1c14d86d928b4a2111e372248dfc93bde3074b1368',
)
