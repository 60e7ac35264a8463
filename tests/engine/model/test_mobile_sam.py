"""A checkpoint in MobileSAM's public layout: every tensor lands, and the features are the same.

The reference below is written from the structure that mobile_sam/modeling/tiny_vit_sam.py has, and
reads the public names alone; nothing of timm or of ours is in it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor
from torch.nn import functional as F

from engine.model import weights
from engine.model.registry import vit_t

DIMS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
Tensors = dict[str, Tensor]


def conv_bn(name: str, ins: int, outs: int, kernel: int, groups: int = 1) -> Iterator[tuple]:
    yield f"{name}.c.weight", (outs, ins // groups, kernel, kernel)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.bn.{part}", (outs,)


def layer_of(name: str, ins: int, outs: int) -> Iterator[tuple]:
    yield f"{name}.weight", (outs, ins)
    yield f"{name}.bias", (outs,)


def norm(name: str, dim: int) -> Iterator[tuple]:
    yield f"{name}.weight", (dim,)
    yield f"{name}.bias", (dim,)


def encoder_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from conv_bn("patch_embed.seq.0", 3, 32, 3)
    yield from conv_bn("patch_embed.seq.2", 32, 64, 3)
    for i, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            yield from mb_conv(block, dim) if i == 0 else attention_block(block, dim, i)
        if i < 3:
            down, out = f"layers.{i}.downsample", DIMS[i + 1]
            yield from conv_bn(f"{down}.conv1", dim, out, 1)
            yield from conv_bn(f"{down}.conv2", out, out, 3, groups=out)
            yield from conv_bn(f"{down}.conv3", out, out, 1)
    yield from norm("norm_head", 320)
    yield from layer_of("head", 320, 1000)
    yield "neck.0.weight", (256, 320, 1, 1)
    yield from norm("neck.1", 256)
    yield "neck.2.weight", (256, 256, 3, 3)
    yield from norm("neck.3", 256)


def mb_conv(block: str, dim: int) -> Iterator[tuple]:
    yield from conv_bn(f"{block}.conv1", dim, 4 * dim, 1)
    yield from conv_bn(f"{block}.conv2", 4 * dim, 4 * dim, 3, groups=4 * dim)
    yield from conv_bn(f"{block}.conv3", 4 * dim, dim, 1)


def attention_block(block: str, dim: int, i: int) -> Iterator[tuple]:
    yield f"{block}.attn.attention_biases", (HEADS[i], WINDOWS[i] ** 2)
    yield from norm(f"{block}.attn.norm", dim)
    yield from layer_of(f"{block}.attn.qkv", dim, 3 * dim)
    yield from layer_of(f"{block}.attn.proj", dim, dim)
    yield from norm(f"{block}.mlp.norm", dim)
    yield from layer_of(f"{block}.mlp.fc1", dim, 4 * dim)
    yield from layer_of(f"{block}.mlp.fc2", 4 * dim, dim)
    yield from conv_bn(f"{block}.local_conv", dim, dim, 3, groups=dim)


def offsets(window: int) -> Tensor:
    """(n, n): the place of each pair's |dy|, |dx| in the table of biases, as first met."""
    cells = [(y, x) for y in range(window) for x in range(window)]
    met: dict[tuple[int, int], int] = {}
    pairs = [(abs(a - c), abs(b - d)) for a, b in cells for c, d in cells]
    return torch.tensor([met.setdefault(pair, len(met)) for pair in pairs]).view(len(cells), -1)


@pytest.fixture(scope="module")
def public() -> Tensors:
    """Random tensors under the names and in the shapes of `mobile_sam.pt`, heads and tables too."""
    chance = torch.Generator().manual_seed(5)
    tensors: Tensors = {}
    for name, shape in encoder_shapes():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        value = torch.randn(shape, generator=chance) / fan_in**0.5
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            value = 1.0 + 0.5 * torch.rand(shape, generator=chance)
        tensors[f"image_encoder.{name}"] = value
        if name.endswith("running_var"):
            counted = name.replace("running_var", "num_batches_tracked")
            tensors[f"image_encoder.{counted}"] = torch.tensor(7)
        if name.endswith("attention_biases"):
            table = name.replace("attention_biases", "attention_bias_idxs")
            tensors[f"image_encoder.{table}"] = offsets(int(shape[1] ** 0.5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        prompts = PromptEncoder(256, (64, 64), (1024, 1024), mask_in_chans=16)
        two_way = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
        decoder = MaskDecoder(transformer_dim=256, transformer=two_way)
    tensors |= {f"prompt_encoder.{name}": value for name, value in prompts.state_dict().items()}
    return tensors | {f"mask_decoder.{name}": v for name, v in decoder.state_dict().items()}


@pytest.fixture(scope="module")
def checkpoint(public: Tensors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("public") / "mobile_sam.pt"
    torch.save(public, path)
    return path


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Tensors:
    return weights.load_meta_checkpoint(checkpoint, "vit_t").state_dict()


class Reference:
    """TinyViT's forward pass on the public names, in evaluation mode."""

    def __init__(self, tensors: Tensors) -> None:
        self.of = {k.removeprefix("image_encoder."): v for k, v in tensors.items()}

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        kernel = self.of[f"{name}.c.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        parts = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.of[f"{name}.bn.{part}"] for part in parts))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.of[f"{name}.weight"], self.of[f"{name}.bias"])

    def norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], self.of[f"{name}.weight"], self.of[f"{name}.bias"], eps
        )

    def mb_conv(self, name: str, x: Tensor) -> Tensor:
        y = F.gelu(self.conv(f"{name}.conv1", x))
        y = F.gelu(self.conv(f"{name}.conv2", y, groups=y.shape[1]))
        return F.gelu(x + self.conv(f"{name}.conv3", y))

    def merge(self, name: str, x: Tensor, stride: int) -> Tensor:
        y = F.gelu(self.conv(f"{name}.conv1", x))
        y = F.gelu(self.conv(f"{name}.conv2", y, stride=stride, groups=y.shape[1]))
        return self.conv(f"{name}.conv3", y)

    def attend(self, name: str, cells: Tensor, heads: int) -> Tensor:
        """One window at a time: (n, C) -> (n, C)."""
        n, channels = cells.shape
        mixed = self.linear(f"{name}.qkv", self.norm(f"{name}.norm", cells))
        q, k, v = mixed.view(n, heads, 3, -1).permute(2, 1, 0, 3)
        bias = self.of[f"{name}.attention_biases"][:, offsets(int(n**0.5))]
        shares = (q @ k.transpose(1, 2) * (channels // heads) ** -0.5 + bias).softmax(dim=-1)
        return self.linear(f"{name}.proj", (shares @ v).transpose(0, 1).reshape(n, channels))

    def windows(self, name: str, x: Tensor, window: int, heads: int) -> Tensor:
        """(H, W, C): attention in each window, the last ones filled up with zeros."""
        height, width, channels = x.shape
        padded = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        out = torch.zeros_like(padded)
        for top in range(0, height, window):
            for left in range(0, width, window):
                place = (slice(top, top + window), slice(left, left + window))
                cells = self.attend(name, padded[place].reshape(-1, channels), heads)
                out[place] = cells.reshape(window, window, channels)
        return out[:height, :width]

    def block(self, name: str, x: Tensor, window: int, heads: int) -> Tensor:
        """(1, C, H, W): attention, a convolution of each channel, an MLP."""
        rows = x[0].permute(1, 2, 0)
        rows = rows + self.windows(f"{name}.attn", rows, window, heads)
        x = self.conv(f"{name}.local_conv", rows.permute(2, 0, 1)[None], groups=rows.shape[-1])
        rows = x[0].permute(1, 2, 0)
        hidden = F.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.mlp.norm", rows)))
        return (rows + self.linear(f"{name}.mlp.fc2", hidden)).permute(2, 0, 1)[None]

    def __call__(self, x: Tensor) -> Tensor:
        x = F.gelu(self.conv("patch_embed.seq.0", x, stride=2))
        x = self.conv("patch_embed.seq.2", x, stride=2)
        for i, depth in enumerate(DEPTHS):
            for j in range(depth):
                name = f"layers.{i}.blocks.{j}"
                x = self.mb_conv(name, x) if i == 0 else self.block(name, x, WINDOWS[i], HEADS[i])
            if i < 3:
                x = self.merge(f"layers.{i}.downsample", x, stride=1 if DIMS[i + 1] == 320 else 2)
        for conv, after in (("neck.0", "neck.1"), ("neck.2", "neck.3")):
            kernel = self.of[f"{conv}.weight"]
            x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2).permute(0, 2, 3, 1)
            x = self.norm(after, x, eps=1e-6).permute(0, 3, 1, 2)
        return x


def numbers(value: Tensor) -> bytes:
    return value.contiguous().numpy().tobytes()


@pytest.mark.parametrize("side", [224, 256], ids=["windows that fit", "windows that do not"])
@torch.inference_mode()
def test_the_features_are_mobile_sams(public: Tensors, loaded: Tensors, side: int) -> None:
    model = vit_t(side).eval()
    model.load_state_dict(loaded)
    frame = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    wanted = Reference(public)(frame)
    assert wanted.shape == (1, 256, side // 16, side // 16)
    torch.testing.assert_close(model.encode(frame).embedding, wanted, atol=1e-3, rtol=1e-3)


def test_every_tensor_lands_and_none_is_left_as_it_was(public: Tensors, loaded: Tensors) -> None:
    unused = ("image_encoder.head.", "image_encoder.norm_head.")
    used = [
        value
        for name, value in public.items()
        if not name.startswith(unused) and not name.endswith("attention_bias_idxs")
    ]
    assert sorted(map(numbers, loaded.values())) == sorted(map(numbers, used))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("patch_embed.seq.2.bn.bias", "patch_embed.conv2.bn.bias"),
        ("layers.0.blocks.1.conv3.c.weight", "stages.0.blocks.1.conv3.conv.weight"),
        ("layers.0.downsample.conv1.c.weight", "stages.1.downsample.conv1.conv.weight"),
        ("layers.2.downsample.conv2.bn.running_var", "stages.3.downsample.conv2.bn.running_var"),
        ("layers.2.blocks.5.attn.attention_biases", "stages.2.blocks.5.attn.attention_biases"),
        ("layers.3.blocks.0.local_conv.c.weight", "stages.3.blocks.0.local_conv.conv.weight"),
    ],
)
def test_a_name_of_the_original_is_ours(
    public: Tensors, loaded: Tensors, theirs: str, ours: str
) -> None:
    arrived = loaded[f"image_encoder.backbone.{ours}"]
    assert torch.equal(arrived, public[f"image_encoder.{theirs}"])


@pytest.mark.parametrize("change", ["without a tensor", "with one too many", "of another shape"])
def test_other_tensors_are_refused(public: Tensors, tmp_path: Path, change: str) -> None:
    tensors, name = dict(public), "image_encoder.layers.1.blocks.0.attn.proj.weight"
    if change == "of another shape":
        tensors[name] = tensors[name][:-1]
    elif change == "with one too many":
        tensors["image_encoder.layers.3.downsample.conv1.c.weight"] = tensors[name]
    else:
        del tensors[name]
    torch.save(tensors, tmp_path / "other.pt")
    with pytest.raises(weights.WeightsError, match="not the weights of vit_t"):
        weights.load_meta_checkpoint(tmp_path / "other.pt", "vit_t")


def test_a_model_remembers_nothing_of_earlier_weights(loaded: Tensors) -> None:
    """timm keeps the biases of attention from a first look, whatever is loaded afterwards."""
    frame = torch.randn(1, 3, 64, 64)
    fresh, used = vit_t(64).eval(), vit_t(64).eval()
    with torch.inference_mode():
        used.encode(frame)
    for model in (fresh, used):
        model.load_state_dict(loaded)
    with torch.inference_mode():
        torch.testing.assert_close(used.encode(frame), fresh.encode(frame))
