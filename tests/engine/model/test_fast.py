"""The fast layers compute what segment_anything's do."""

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, image_encoder
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention, TwoWayTransformer

from engine.model import fast as fast_layers
from engine.model.fast import ChannelNorm, FusedAttention, PlacedAttention, use_fast_layers


def test_channel_norm_is_layer_norm_2d() -> None:
    slow, fast = LayerNorm2d(12), ChannelNorm(12)
    torch.nn.init.normal_(slow.weight)
    torch.nn.init.normal_(slow.bias)
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(2, 12, 5, 7)
    torch.testing.assert_close(fast(x), slow(x), atol=1e-5, rtol=1e-5)


def test_fused_attention_is_attention() -> None:
    slow, fast = Attention(32, 4, downsample_rate=2), FusedAttention(32, 4, downsample_rate=2)
    fast.load_state_dict(slow.state_dict())
    q, k = torch.randn(2, 6, 32), torch.randn(2, 50, 32)
    torch.testing.assert_close(fast(q, k, k), slow(q, k, k), atol=1e-5, rtol=1e-5)


def test_a_whole_transformer_keeps_its_parameters_and_its_function() -> None:
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, num_heads=4, mlp_dim=64).eval()
    image, pe, points = torch.randn(1, 32, 6, 6), torch.randn(1, 32, 6, 6), torch.randn(1, 3, 32)
    expected = transformer(image, pe, points)
    names = list(transformer.state_dict())
    use_fast_layers(transformer)
    assert list(transformer.state_dict()) == names
    assert any(type(module) is FusedAttention for module in transformer.modules())
    assert not any(type(module) is Attention for module in transformer.modules())
    for got, want in zip(transformer(image, pe, points), expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scores_at_once", [1, 3 * 36**2, 1 << 24], ids=["one", "some", "all"])
@pytest.mark.parametrize("gradients", [False, True])
def test_a_vision_transformer_keeps_its_parameters_and_its_function(
    scores_at_once: int, gradients: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With windows, some of which are padded, and with attention over all cells."""
    monkeypatch.setattr(fast_layers, "_SCORES_AT_ONCE", scores_at_once)
    encoder = ImageEncoderViT(
        img_size=96,
        patch_size=16,
        embed_dim=24,
        depth=2,
        num_heads=3,
        out_chans=8,
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(1,),
    )
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter)
    frames = torch.randn(2, 3, 96, 96)
    with torch.set_grad_enabled(gradients):
        expected = encoder(frames)
        names = list(encoder.state_dict())
        use_fast_layers(encoder)
        assert list(encoder.state_dict()) == names
        assert sum(type(module) is PlacedAttention for module in encoder.modules()) == 2
        assert not any(type(module) is image_encoder.Attention for module in encoder.modules())
        found = encoder(frames)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.requires_grad == gradients
