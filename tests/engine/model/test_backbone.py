"""Backbones of timm: their names, their levels, their norms."""

import subprocess
import sys

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

from engine.model.backbone import BackboneEncoder, num_groups, use_group_norm
from engine.model.registry import ModelConfig, with_backbone


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("resnet18", 2),
        ("efficientnet_b0", 2),
        ("swin_tiny_patch4_window7_224", 2),
        ("vit_tiny_patch16_224", 1),
    ],
)
@torch.inference_mode()
def test_every_kind_of_backbone_gives_stride_16(name: str, levels: int) -> None:
    encoder = BackboneEncoder(name, 128).eval()
    assert len(encoder.laterals) == levels
    assert encoder(torch.randn(1, 3, 128, 128)).shape == (1, 256, 8, 8)


@torch.inference_mode()
def test_coarser_levels_are_heard() -> None:
    encoder = BackboneEncoder("resnet18", 128).eval()
    frame = torch.randn(1, 3, 128, 128)
    before = encoder(frame)
    encoder.laterals[1].weight.zero_()
    assert not torch.allclose(encoder(frame), before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet_of_nobody", "timm has no model 'resnet_of_nobody'; python -c .* lists names"),
        ("", "timm has no model ''"),
    ],
)
def test_a_name_that_timm_does_not_know_is_refused_at_once(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(architecture=f"timm/{name}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_small_patch14_dinov2", r"has features at strides \[14\], but 16 is needed"),
        ("levit_128s", "has BatchNorm1d, which needs whole batches; choose another"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_backbone(name, 128)


def test_a_backbone_that_cuts_borders_off_is_refused() -> None:
    model = with_backbone("inception_v3", 128)
    with pytest.raises(ValueError, match=r"must give \(8, 8\) cells, but gave \(6, 6\)"):
        model.encode(torch.zeros(1, 3, 128, 128))


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 4), (16, 1), (8, 1), (24, 1), (40, 2), (56, 2), (320, 20)]
)
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    assert num_groups(channels) == groups


@torch.inference_mode()
def test_a_group_norm_has_the_batch_norms_scale_and_shift() -> None:
    layers = nn.Sequential(nn.Sequential(nn.BatchNorm2d(32)))
    layers[0][0].weight.normal_()
    layers[0][0].bias.normal_()
    x = torch.randn(2, 32, 5, 5)
    expected = F.group_norm(x, 2, layers[0][0].weight, layers[0][0].bias)
    use_group_norm(layers)
    torch.testing.assert_close(layers(x), expected)


@torch.inference_mode()
def test_a_norm_of_timm_keeps_its_activation() -> None:
    layers = nn.Sequential(BatchNormAct2d(32, act_layer=nn.Hardswish))
    x = torch.randn(2, 32, 5, 5)
    use_group_norm(layers)
    torch.testing.assert_close(layers(x), F.hardswish(F.group_norm(x, 2)), atol=1e-4, rtol=1e-4)


def test_the_registry_does_not_import_timm() -> None:
    """Over a second, because a new interpreter imports torch."""
    code = "import sys, engine.model.weights; assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
