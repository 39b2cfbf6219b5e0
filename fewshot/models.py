"""The checkpoints that the worker knows: what they are called, how SAM is built for them, where the file lies.

Imports neither torch nor segment_anything, for the interface needs the names alone.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Checkpoint:
    """One file of SAM1 weights and what the generator of masks needs to know about it.

    The sizes are those of `segment_anything.modeling`; the three thresholds are those of `SamAutomaticMaskGenerator`
    that suit these weights.
    """

    name: str
    title: str  # for people: what these weights are
    input_size: int  # side of the square that the encoder sees, pixels
    width: int  # channels of the encoder's blocks
    depth: int  # blocks of the encoder
    heads: int
    global_blocks: tuple[int, ...]  # blocks that attend to the whole image, the others to windows
    window: int  # side of a window, cells of 16 pixels
    channels: int  # length of an embedding vector
    decoder_width: int  # hidden units of the decoder's transformer
    pred_iou_thresh: float
    stability_score_thresh: float
    box_nms_thresh: float
    size: int  # of the file, bytes
    sha256: str

    @property
    def file(self) -> str:
        """Name of the file in the checkpoint folder."""
        return f'{self.name}.pth'


VIT_H = Checkpoint(
    name='sam_vit_h_4b8939', title='SAM ViT-H, 641 million parameters', input_size=1024, width=1280, depth=32, heads=16,
    global_blocks=(7, 15, 23, 31), window=14, channels=256, decoder_width=2048,
    pred_iou_thresh=0.88, stability_score_thresh=0.95, box_nms_thresh=0.7,
    size=2_564_550_879, sha256='a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e')

VIT_MINI = Checkpoint(
    name='sam_vit_mini', title='a small SAM, 4 million parameters, for trying and testing', input_size=256, width=192,
    depth=6, heads=6, global_blocks=(1, 3, 5), window=8, channels=128, decoder_width=512,
    pred_iou_thresh=0.55, stability_score_thresh=0.7, box_nms_thresh=0.2, size=7_822_095,
    sha256='8eec4169e7307911cdf64ce22f7fd6da77c56d99d51fecdb6e7eadca9f3ceb89')

KNOWN = {checkpoint.name: checkpoint for checkpoint in (VIT_H, VIT_MINI)}
MODELS = [VIT_H.name]  # always offered, for the image carries this file
