"""Our batched parts give what segment_anything's own parts give, one image at a time."""

from collections.abc import Callable

import pytest
import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from engine.model.prompt_encoder import BOTTOM_RIGHT, PADDING, POSITIVE, TOP_LEFT, PromptTensors
from engine.model.registry import ModelConfig, build_model, with_batches
from engine.model.sam import Features

DIM = 256


def small_sam() -> Sam:
    """segment_anything's own parts around a tiny ViT, as its builders put them together."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Sam(
            image_encoder=ImageEncoderViT(
                img_size=128,
                patch_size=16,
                embed_dim=32,
                depth=1,
                num_heads=2,
                out_chans=DIM,
                window_size=4,
                global_attn_indexes=(0,),
                use_rel_pos=True,
            ),
            prompt_encoder=PromptEncoder(DIM, (8, 8), (128, 128), mask_in_chans=16),
            mask_decoder=MaskDecoder(
                transformer_dim=DIM,
                transformer=TwoWayTransformer(depth=2, embedding_dim=DIM, num_heads=8, mlp_dim=64),
            ),
        ).eval()


def of_original(sam: Sam, image: torch.Tensor, **prompt: torch.Tensor) -> list[torch.Tensor]:
    """All four masks and scores by segment_anything itself; `points` are pixel indices."""
    points = (prompt["points"], prompt["labels"]) if "points" in prompt else None
    sparse, dense = sam.prompt_encoder(points, prompt.get("boxes"), prompt.get("masks"))
    masks, iou = sam.mask_decoder.predict_masks(
        image, sam.prompt_encoder.get_dense_pe(), sparse, dense
    )
    return [masks, iou]


def points_case() -> tuple[dict[str, torch.Tensor], PromptTensors]:
    points = torch.tensor([[[20.0, 30.0]], [[90.0, 64.0]], [[5.0, 5.0]]])
    labels = torch.tensor([[1], [0], [1]])
    padded = torch.cat([points + 0.5, torch.zeros(3, 1, 2)], dim=1)
    ours = PromptTensors(points=padded, labels=torch.tensor([[1, -1], [0, -1], [1, -1]]))
    return {"points": points, "labels": labels}, ours


def box_case() -> tuple[dict[str, torch.Tensor], PromptTensors]:
    boxes = torch.tensor([[10.0, 12.0, 60.0, 80.0], [0.0, 0.0, 127.0, 127.0]])
    corners = torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]]).expand(2, -1)
    return {"boxes": boxes}, PromptTensors(points=boxes.reshape(2, 2, 2) + 0.5, labels=corners)


def mask_case() -> tuple[dict[str, torch.Tensor], PromptTensors]:
    theirs, ours = points_case()
    masks = torch.randn(3, 1, 32, 32)
    return {**theirs, "masks": masks}, PromptTensors(
        points=ours.points, labels=ours.labels, mask_logits=masks
    )


@pytest.mark.parametrize("case", [points_case, box_case, mask_case])
@torch.inference_mode()
def test_prompts_of_one_image_give_what_the_original_gives(
    case: Callable[[], tuple[dict[str, torch.Tensor], PromptTensors]],
) -> None:
    original = small_sam()
    batched = with_batches(small_sam()).eval()
    batched.load_state_dict(original.state_dict())
    theirs, ours = case()
    image = original.image_encoder(torch.randn(1, 3, 128, 128))
    wanted = of_original(original, image, **theirs)
    index = torch.zeros(len(ours), dtype=torch.int64)
    got = batched.decode(Features(image, None), index, ours)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_prompts_of_many_images_give_what_each_gives_alone() -> None:
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=1)
    features = model.encode(torch.randn(3, 3, 256, 256))
    index = torch.tensor([2, 0, 1, 0])
    prompts = PromptTensors(
        points=torch.rand(4, 2, 2) * 128,
        labels=torch.tensor([[POSITIVE, PADDING]] * 3 + [[TOP_LEFT, BOTTOM_RIGHT]]),
    )
    together = model.decode(features, index, prompts)
    for row, image in enumerate(index.tolist()):
        one = PromptTensors(
            points=prompts.points[row : row + 1], labels=prompts.labels[row : row + 1]
        )
        alone = model.decode(features, torch.tensor([image]), one)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[row], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_mask_prompt_counts_only_where_it_is_said_to() -> None:
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=1)
    features = model.encode(torch.randn(1, 3, 256, 256))
    points, labels = torch.rand(2, 1, 2) * 128, torch.ones((2, 1), dtype=torch.int64)
    index = torch.zeros(2, dtype=torch.int64)
    masks = torch.randn(2, 1, *model.logits_hw) * 5
    mixed = PromptTensors(
        points=points, labels=labels, mask_logits=masks, has_mask=torch.tensor([True, False])
    )
    with_mask = PromptTensors(points=points, labels=labels, mask_logits=masks)
    without = PromptTensors(points=points, labels=labels)
    got, _ = model.decode(features, index, mixed)
    torch.testing.assert_close(got[0], model.decode(features, index, with_mask)[0][0])
    torch.testing.assert_close(got[1], model.decode(features, index, without)[0][1])
    assert not torch.allclose(got[0], model.decode(features, index, without)[0][0])


def test_training_reaches_every_part() -> None:
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0).train()
    with torch.no_grad():
        # What starts at zero hides the layers before it.
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    features = model.encode(torch.randn(1, 3, 256, 256))
    prompts = PromptTensors(
        points=torch.tensor([[[30.0, 40.0], [0.0, 0.0]], [[10.0, 10.0], [90.0, 80.0]]]),
        labels=torch.tensor([[POSITIVE, PADDING], [TOP_LEFT, BOTTOM_RIGHT]]),
        mask_logits=torch.randn(2, 1, *model.logits_hw),
        has_mask=torch.tensor([True, False]),
    )
    logits, iou = model.decode(features, torch.zeros(2, dtype=torch.int64), prompts)
    (logits.square().mean() + iou.square().mean()).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # Nobody clicked a negative, and softmax does not see what is added to all keys alike.
    unseen = {name for name in without if name.endswith("token_to_image.k_proj.bias")}
    assert without - unseen == {"prompt_encoder.point_embeddings.0.weight"}


def test_an_untrained_model_expects_little_foreground() -> None:
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    features = model.encode(torch.randn(1, 3, 256, 256))
    prompts = PromptTensors(points=torch.tensor([[[64.0, 64.0]]]), labels=torch.tensor([[1]]))
    logits, _ = model.decode(features, torch.zeros(1, dtype=torch.int64), prompts)
    assert (torch.sigmoid(logits) > 0.5).float().mean() < 0.2
