"""The fast layers compute what segment_anything's do."""

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention, TwoWayTransformer

from engine.model.fast import ChannelNorm, FusedAttention, use_fast_layers


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
