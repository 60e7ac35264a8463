"""Cells that go strip by strip come out as they do all together."""

import pytest
import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn

from engine.model import strips, upscaling
from engine.model.strips import OneImage, attended
from engine.model.transformer import TokenSideTransformer
from engine.model.upscaling import children, drawn_by_strips, in_image_order

DIM, CELLS = 32, 36


@pytest.fixture(params=[CELLS, 16, 7], ids=lambda size: f"{size} of {CELLS} cells a strip")
def _strip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (strips, upscaling):
        monkeypatch.setattr(module, "_STRIP", request.param * DIM)


@pytest.mark.usefixtures("_strip")
@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.inference_mode()
def test_prompts_of_one_image_hear_what_the_transformer_tells(depth: int) -> None:
    torch.manual_seed(depth)
    transformer = TokenSideTransformer(depth=depth, embedding_dim=DIM, num_heads=4, mlp_dim=48)
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.3)
    cells, places = torch.randn(CELLS, DIM), torch.randn(CELLS, DIM)
    tokens = torch.randn(3, 5, DIM)
    image = OneImage.seen_by(transformer.layers[0], cells, places)
    got = attended(transformer, image, tokens)
    for a, b in zip(got, transformer(cells[None], places, tokens), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("_strip")
@torch.inference_mode()
def test_masks_are_drawn_as_the_original_draws_them() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.ConvTranspose2d(DIM, DIM // 4, 2, 2),
        LayerNorm2d(DIM // 4),
        nn.GELU(),
        nn.ConvTranspose2d(DIM // 4, DIM // 8, 2, 2),
        nn.GELU(),
    )
    image, weights = torch.randn(1, DIM, 4, 9), torch.randn(2, DIM // 8)
    wanted = (weights @ layers(image)[0].flatten(1)).reshape(2, 16, 36)
    drawn = drawn_by_strips(image[0].permute(1, 2, 0), (4, 9), layers, weights)
    torch.testing.assert_close(drawn, wanted, atol=1e-5, rtol=1e-5)
    part = drawn_by_strips(image[0].permute(1, 2, 0), (2, 5), layers, weights)
    torch.testing.assert_close(part[:, :8, :20], wanted[:, :8, :20], atol=1e-5, rtol=1e-5)
    assert not part[:, 8:].any()
    assert not part[:, :, 20:].any()


@torch.inference_mode()
def test_children_are_those_of_the_transposed_convolution() -> None:
    layer, cells = nn.ConvTranspose2d(8, 4, 2, 2), torch.randn(2, 8, 3, 5)
    torch.testing.assert_close(in_image_order(children(cells, layer)), layer(cells))
