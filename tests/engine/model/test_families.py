"""Every family of encoders learns, trains as a whole, and answers a batch as it answers one."""

from collections.abc import Callable
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
from engine.metrics.interactive import click_traces
from engine.model.interactive import InteractivePredictor
from engine.model.predictor import Predictor
from engine.model.prompt_encoder import BOTTOM_RIGHT, PADDING, POSITIVE, TOP_LEFT, PromptTensors
from engine.model.registry import ModelConfig, build_model, vit_t, with_backbone, with_batches
from engine.model.sam import PromptableSam
from engine.model.weights import load, to_bytes
from engine.training.config import TrainingConfig
from engine.training.samples import LabelledImage
from engine.training.trainer import train

SIDE = 128


def vit() -> PromptableSam:
    """SAM's vision transformer, tiny, as its builders put it together."""
    encoder = ImageEncoderViT(
        img_size=SIDE,
        embed_dim=32,
        depth=2,
        num_heads=2,
        out_chans=256,
        window_size=3,
        global_attn_indexes=(1,),
        use_rel_pos=True,
    )
    two_way = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=64)
    decoder = MaskDecoder(transformer_dim=256, transformer=two_way)
    return with_batches(Sam(encoder, PromptEncoder(256, (8, 8), (SIDE, SIDE), 16), decoder))


FAMILIES: dict[str, Callable[[], PromptableSam]] = {
    "nano": lambda: build_model(ModelConfig(architecture="nano_tiny"), seed=0),
    "vit": vit,
    "vit_t": lambda: vit_t(SIDE),
    "resnet18": lambda: with_backbone("resnet18", SIDE),
    "resnet50": lambda: with_backbone("resnet50", SIDE),
    "convnext": lambda: with_backbone("convnext_atto", SIDE),
    "plain transformer of timm": lambda: with_backbone("vit_tiny_patch16_224", SIDE),
}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PromptableSam:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FAMILIES[request.param]().eval()
        with torch.no_grad():
            # What starts at zero hides the layers before it.
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
    return model


def mixed_prompts(model: PromptableSam) -> PromptTensors:
    """Four prompts: clicks and a box, one of them with a mask from before."""
    points = torch.rand(4, 2, 2) * model.side
    labels = torch.tensor([[POSITIVE, PADDING]] * 3 + [[TOP_LEFT, BOTTOM_RIGHT]])
    masks = torch.randn(4, 1, *model.logits_hw)
    chosen = torch.tensor([True, False, False, False])
    return PromptTensors(points=points, labels=labels, mask_logits=masks, has_mask=chosen)


def only(prompts: PromptTensors, row: int) -> PromptTensors:
    assert prompts.mask_logits is not None
    assert prompts.has_mask is not None
    one = slice(row, row + 1)
    return PromptTensors(
        points=prompts.points[one],
        labels=prompts.labels[one],
        mask_logits=prompts.mask_logits[one],
        has_mask=prompts.has_mask[one],
    )


@torch.inference_mode()
def test_a_batch_gives_what_each_gives_alone(model: PromptableSam) -> None:
    frames = torch.randn(3, 3, model.side, model.side)
    prompts, index = mixed_prompts(model), torch.tensor([2, 0, 1, 0])
    together = model.decode(model.encode(frames), index, prompts)
    for row, image in enumerate(index.tolist()):
        features = model.encode(frames[image : image + 1])
        alone = model.decode(features, torch.tensor([0]), only(prompts, row))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[row], atol=1e-3, rtol=1e-3)


def test_training_reaches_every_part(model: PromptableSam) -> None:
    model.train()
    features = model.encode(torch.randn(2, 3, model.side, model.side))
    index = torch.tensor([0, 1, 0, 1])
    logits, iou = model.decode(features, index, mixed_prompts(model))
    (logits.square().mean() + iou.square().mean()).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # Nobody clicked a negative, and softmax does not see what is added to all keys alike.
    unseen = {name for name in without if name.endswith("token_to_image.k_proj.bias")}
    assert without - unseen == {"prompt_encoder.point_embeddings.0.weight"}


def test_training_changes_nothing_but_parameters(model: PromptableSam) -> None:
    """Threads share a model while it trains: no running statistics, no caches."""
    before = {name: value.clone() for name, value in model.named_buffers()}
    frames = torch.randn(2, 3, model.side, model.side)
    together = model.train().encode(frames).embedding
    alone = model.encode(frames[1:]).embedding
    torch.testing.assert_close(alone[0], together[1], atol=1e-3, rtol=1e-3)
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("architecture", ["vit_t", "resnet18", "resnet50", "timm/convnext_atto"])
def test_a_registered_model_survives_the_disk(architecture: str) -> None:
    config = ModelConfig(architecture=architecture)
    model = build_model(config, seed=2)
    again, read = load(to_bytes(model, config))
    assert read == config
    assert again.side == model.side == (1024 if architecture == "vit_t" else 512)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_the_likely_masks_are_those_of_all(name: str) -> None:
    model = FAMILIES[name]().eval()
    features = model.encode(torch.rand(1, 3, model.side, model.side))
    prompts = PromptTensors(
        points=torch.rand(5, 2, 2) * model.side,
        labels=torch.tensor([[POSITIVE, PADDING]] * 5),
    )
    index = torch.zeros(5, dtype=torch.int64)
    logits, iou = model.decode(features, index, prompts)
    all_logits, all_iou = logits[:, 1:].flatten(0, 1), iou[:, 1:].flatten()
    # Where no rounding decides.
    ranked = all_iou.sort().values
    gap = int(ranked.diff().argmax())
    for threshold in (-torch.inf, float(ranked[gap : gap + 2].mean()), torch.inf):
        likely, its_iou, which = model.decode_above(threshold, features, index, prompts)
        assert which.tolist() == (all_iou > threshold).nonzero()[:, 0].tolist()
        torch.testing.assert_close(likely, all_logits[which], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(its_iou, all_iou[which])


class Windows:
    """The largest nucleus of each of some images, in a window of the model's size around it."""

    def __init__(self, folder: Path, num_images: int) -> None:
        dataset = coco.read(folder / "annotations.json")
        by_image: dict[object, list[coco.CocoMask]] = {}
        for mask in dataset.masks:
            by_image.setdefault(mask.image_id, []).append(mask)
        largest = {
            number: max(found, key=lambda mask: rle.area(mask.rle))
            for number, found in by_image.items()
        }
        names = {image.id: image.file_name for image in dataset.images}
        ranked = sorted(largest, key=lambda number: -rle.area(largest[number].rle))
        self.items = [
            self._window(folder / "images" / names[number], largest[number].rle)
            for number in ranked[:num_images]
        ]

    @staticmethod
    def _window(path: Path, code: rle.Rle) -> LabelledImage:
        pixels = images.decode(path.read_bytes()).pixels
        x0, y0, x1, y1 = rle.box(code)
        corner = np.array([y0 + y1 - SIDE, x0 + x1 - SIDE]) / 2
        top, left = np.clip(corner, 0, np.array(code.size) - SIDE).astype(int)
        part = np.s_[top : top + SIDE, left : left + SIDE]
        mask = rle.encode_one(np.ascontiguousarray(rle.decode(code)[part]))
        return LabelledImage(image=pixels[part].copy(), masks=[mask], complete=False)

    def __len__(self) -> int:
        return len(self.items)

    def load(self, index: int) -> LabelledImage:
        return self.items[index]


def first_click(model: PromptableSam, item: LabelledImage) -> float:
    """The IoU that a click in the middle gives."""
    predictor = Predictor(model, version="of a test")
    asked = InteractivePredictor.on(predictor, item.image, predictor.embed(item.image))
    truths = np.stack([rle.decode(mask) for mask in item.masks])
    [trace] = click_traces(asked, truths, num_clicks=1, num_needed=1, target=1.0)
    return trace.at(1)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("name", "steps"), [("vit", 300), ("vit_t", 80), ("resnet18", 130)])
def test_eight_real_images_are_learnt_by_heart(name: str, steps: int, data_dir: Path) -> None:
    windows = Windows(data_dir / "nuclei", 8)
    config = TrainingConfig(
        steps=steps,
        batch_images=2,
        masks_per_image=1,
        background_per_image=0,
        warmup_steps=20,
        augment=False,
        crop_scale=(1.0, 1.0),
        box_fraction=0.0,
        extra_rounds=(0,),
        extra_rounds_p=(1.0,),
        ema=0.9,
    )
    before = FAMILIES[name]()
    model = train(before, windows, config).model
    ious = [first_click(model, item) for item in windows.items]
    assert float(np.mean(ious)) >= 0.9, ious
