"""The refined decoder starts as the original's function, and its parts do what they are for."""

import torch

from engine.model.mask_decoder import BatchedMaskDecoder, RefinedMaskDecoder
from engine.model.prompt_encoder import PromptEmbedding
from engine.model.transformer import TokenSideTransformer
from engine.model.upscaling import GatedSkip, Refinement

DIM = 32


def decoder_of(kind: type[BatchedMaskDecoder]) -> BatchedMaskDecoder:
    torch.manual_seed(0)
    transformer = TokenSideTransformer(depth=1, embedding_dim=DIM, num_heads=2, mlp_dim=DIM)
    return kind(transformer_dim=DIM, transformer=transformer, iou_head_hidden_dim=DIM).eval()


@torch.inference_mode()
def test_as_built_it_is_the_decoder_without_refinements() -> None:
    plain, refined = decoder_of(BatchedMaskDecoder), decoder_of(RefinedMaskDecoder)
    missing, unexpected = refined.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {
        "skip_2x",
        "skip_4x",
        "refine",
        "mask_quality",
    }
    image, pe, dense = (
        torch.randn(2, DIM, 4, 4),
        torch.randn(1, DIM, 4, 4),
        torch.randn(2, DIM, 4, 4),
    )
    sparse = torch.randn(2, 3, DIM)
    nothing = (torch.zeros(2, DIM // 4, 8, 8), torch.zeros(2, DIM // 8, 16, 16))
    wanted = plain.decode(image, pe, PromptEmbedding(sparse, dense, None), None)
    fine = torch.zeros(2, DIM // 4, 8, 8)
    got = refined.decode(image, pe, PromptEmbedding(sparse, dense, fine), nothing)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


@torch.inference_mode()
def test_a_gate_starts_open_and_can_close_for_one_prompt_alone() -> None:
    skip = GatedSkip(2)
    own, image = torch.zeros(2, 2, 3, 3), torch.ones(2, 2, 3, 3)
    torch.testing.assert_close(skip(own, image), own + image)
    skip.gate.weight.fill_(-50.0)
    own[1] = 1.0
    passed = skip(own, image) - own
    torch.testing.assert_close(passed[0], image[0])
    torch.testing.assert_close(passed[1], torch.zeros(2, 3, 3))


@torch.inference_mode()
def test_refined_cells_hear_of_their_neighbours() -> None:
    refine = Refinement(1)
    x = torch.zeros(1, 1, 7, 7)
    x[..., 3, 3] = 1.0
    torch.testing.assert_close(refine(x), x)
    refine.expand.weight.fill_(1.0)
    refine.reduce.weight.fill_(1.0)
    heard = (refine(x) - refine(torch.zeros_like(x)) != 0)[0, 0]
    assert heard[1:6, 1:6].all()
    assert heard.sum() == 25
