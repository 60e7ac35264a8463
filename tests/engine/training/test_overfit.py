"""Each family of encoders, from random weights, can learn eight real images by heart."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from engine import coco, images, rle
from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.metrics.config import EvaluationConfig
from engine.metrics.scores import score
from engine.model.predictor import Predictor
from engine.model.registry import vit_t, with_backbone, with_batches
from engine.model.sam import PromptableSam
from engine.training.config import TrainingConfig
from engine.training.samples import LabelledImage
from engine.training.trainer import train

NUM_IMAGES, CROP, SIDE = 8, 128, 256
LEAST_AREA = 150
CONFIG = TrainingConfig(
    steps=400,
    batch_images=4,
    masks_per_image=6,
    background_per_image=1,
    box_fraction=0.1,
    extra_rounds=(0, 1),
    extra_rounds_p=(0.7, 0.3),
    crop_scale=(1.0, 1.0),
    augment=False,
    scratch_steps=120,
    warmup_steps=30,
    learning_rate=1e-3,
    ema=0.98,
    checkpoint_every=1000,
)


class Middles:
    """The middle of the nuclei images that have the largest nuclei, without slivers."""

    def __init__(self, folder: Path) -> None:
        dataset = coco.read(folder / "annotations.json")
        masks: dict[object, list[rle.Rle]] = {image.id: [] for image in dataset.images}
        for mask in dataset.masks:
            masks[mask.image_id].append(mask.rle)
        sizes = {key: np.median([rle.area(m) for m in own]) for key, own in masks.items() if own}
        chosen = sorted(sizes, key=lambda key: -sizes[key])[:NUM_IMAGES]
        names = {image.id: image.file_name for image in dataset.images}
        self._images = [_middle(folder / "images" / names[key], masks[key]) for key in chosen]

    def __len__(self) -> int:
        return len(self._images)

    def load(self, index: int) -> LabelledImage:
        return self._images[index]


def _middle(path: Path, masks: list[rle.Rle]) -> LabelledImage:
    pixels = images.decode(path.read_bytes()).pixels
    top, left = ((side - CROP) // 2 for side in pixels.shape[:2])
    window = np.s_[top : top + CROP, left : left + CROP]
    seen = [rle.decode(mask)[window] for mask in masks]
    kept = [mask for mask in seen if mask.sum() >= LEAST_AREA]
    return LabelledImage(image=pixels[window].copy(), masks=rle.encode(np.stack(kept)))


def vit() -> PromptableSam:
    """SAM's vision transformer as its builders put it together, small."""
    encoder = ImageEncoderViT(
        img_size=SIDE,
        embed_dim=96,
        depth=4,
        num_heads=4,
        out_chans=256,
        window_size=8,
        global_attn_indexes=(1, 3),
        use_rel_pos=True,
    )
    two_way = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=512)
    decoder = MaskDecoder(transformer_dim=256, transformer=two_way)
    cells = SIDE // 16
    return with_batches(Sam(encoder, PromptEncoder(256, (cells, cells), (SIDE, SIDE), 16), decoder))


FAMILIES: dict[str, Callable[[], PromptableSam]] = {
    "vit": vit,
    "vit_t": partial(vit_t, SIDE),
    "resnet18": partial(with_backbone, "resnet18", SIDE),
}


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("family", FAMILIES)
def test_eight_images_are_learnt_by_heart(data_dir: Path, family: str) -> None:
    middles = Middles(data_dir / "nuclei")
    torch.manual_seed(0)
    model = train(FAMILIES[family](), middles, CONFIG).model
    predictor = Predictor(model, version="overfitted")
    found = score(
        predictor,
        MaskGenerator(predictor, GenerationConfig(points_per_side=4)),
        middles,
        EvaluationConfig(max_masks_per_image=50),
    )
    assert found.metrics()["iou_1_click"] >= 0.9
