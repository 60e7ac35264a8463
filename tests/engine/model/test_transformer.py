"""The transformer that projects on the tokens' side gives what the original gives."""

import pytest
import torch
from segment_anything.modeling import TwoWayTransformer

from engine.model.transformer import TokenSideTransformer

DIM, CELLS = 32, 6


def pair(heads: int) -> tuple[TwoWayTransformer, TokenSideTransformer]:
    torch.manual_seed(0)
    options = {"depth": 2, "embedding_dim": DIM, "num_heads": heads, "mlp_dim": 48}
    original, ours = TwoWayTransformer(**options), TokenSideTransformer(**options)
    for parameter in original.parameters():
        # Larger than at the start, and biases that are not zero.
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(original.state_dict())
    return original, ours


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_answers_and_gradients_are_the_originals(heads: int) -> None:
    original, ours = pair(heads)
    image = torch.randn(3, DIM, CELLS, CELLS, requires_grad=True)
    places, tokens = torch.randn(1, DIM, CELLS, CELLS), torch.randn(3, 5, DIM, requires_grad=True)
    wanted = original(image, places.expand(3, -1, -1, -1), tokens)
    rows = image.flatten(2).transpose(1, 2)
    got = ours(rows, places[0].flatten(1).T, tokens)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    slopes = [
        torch.autograd.grad(
            sum(part.sin().sum() for part in parts),
            [image, tokens, *model.parameters()],
            allow_unused=True,
        )
        for parts, model in ((wanted, original), (got, ours))
    ]
    for a, b in zip(*slopes, strict=True):
        # Softmax does not see the bias of the keys; rounding is all that the original finds there.
        torch.testing.assert_close(torch.zeros_like(a) if b is None else b, a, atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_cells_of_one_image_serve_all_prompts() -> None:
    _, ours = pair(4)
    image, places, tokens = torch.randn(1, 36, DIM), torch.randn(36, DIM), torch.randn(7, 5, DIM)
    shared = ours(image, places, tokens)
    repeated = ours(image.expand(7, -1, -1), places, tokens)
    for a, b in zip(shared, repeated, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_no_prompts_get_no_answers() -> None:
    _, ours = pair(4)
    tokens, cells = ours(torch.randn(1, 36, DIM), torch.randn(36, DIM), torch.randn(0, 5, DIM))
    assert tokens.shape == (0, 5, DIM)
    assert cells.shape == (0, 36, DIM)
