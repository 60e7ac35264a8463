"""Every CLIP by name, and the one door that builds them: open_clip's architectures, and ours."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from engine.clip.config import NANO, ClipConfig
from engine.clip.frames import Frame
from engine.clip.stem import ConvStem

NANO_CONTEXT = 24
_NANO_SIDE = 64
_NANO: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": _NANO_SIDE,
        "patch_size": 8,
        "width": 160,
        "head_width": 32,
        "layers": 4,
        "mlp_ratio": 3.0,
    },
    "text_cfg": {"context_length": NANO_CONTEXT, "width": 128, "heads": 4, "layers": 3},
}

_QUICK = "-quickgelu"

Tokenize = Callable[[list[str]], Tensor]


def _open_clip() -> Any:
    import open_clip  # seconds to import

    return open_clip


@contextmanager
def _silenced() -> Iterator[None]:
    """Nothing is logged through the root logger, which open_clip also sets up by its way.

    It warns of random weights each time, also where others are about to come.
    """

    def drop(_: logging.LogRecord) -> bool:
        return False

    # With a handler there, logging adds none of its own.
    kept = logging.NullHandler()
    logging.root.addFilter(drop)
    logging.root.addHandler(kept)
    try:
        yield
    finally:
        logging.root.removeFilter(drop)
        logging.root.removeHandler(kept)


def check_architecture(name: str) -> None:
    """Raises ValueError for a name that there is not."""
    if name != NANO and name not in _open_clip().list_models():
        raise ValueError(
            f"architecture: must be {NANO} or one of open_clip's, as ViT-B-32, but got {name!r}"
        )


def build(config: ClipConfig, *, seed: int, vocabulary_size: int | None = None) -> nn.Module:
    """A CLIP with random weights that depend on `seed` alone, float32, in evaluation mode.

    vocabulary_size: that of `nano-clip`'s texts. Raises ValueError for an unknown architecture, or
    one that needs a package that is not installed.
    """
    check_architecture(config.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.architecture == NANO:
            model = _nano(vocabulary_size)
        else:
            try:
                with _silenced():
                    model = _open_clip().create_model(config.architecture, pretrained_text=False)
            except (ImportError, NameError, OSError, RuntimeError) as error:
                raise _unbuildable(config.architecture, error) from error
    return model.eval()


def _nano(vocabulary_size: int | None) -> nn.Module:
    assert vocabulary_size is not None, "nano-clip's text tower is as large as its vocabulary"
    text = {**_NANO["text_cfg"], "vocab_size": vocabulary_size}
    model: Any = _open_clip().CLIP(**{**_NANO, "text_cfg": text})
    # Early convolutions help a small transformer see (Xiao et al., 2021).
    model.visual.conv1 = ConvStem(_NANO["vision_cfg"]["width"])
    assert isinstance(model, nn.Module)
    return model


def frame_of(architecture: str, module: nn.Module, tag: str | None = None) -> Frame:
    """How that architecture sees images; weights of a published `tag` may see them otherwise."""
    if architecture == NANO:
        half = (0.5, 0.5, 0.5)
        return Frame(hw=(_NANO_SIDE, _NANO_SIDE), mean=half, std=half, resize="longest", fill=128)
    visual: Any = module.visual
    known = {**visual.preprocess_cfg, **(published(architecture, tag) if tag else {})}
    size = visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return Frame(
        hw=(height, width),
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        resize=known["resize_mode"],
        interpolation=known["interpolation"],
        fill=known.get("fill_color", 0),
    )


def dim_of(architecture: str) -> int:
    """The length of its embeddings; raises ValueError for a name that there is not."""
    check_architecture(architecture)
    known: Any = _NANO if architecture == NANO else _open_clip().get_model_config(architecture)
    return int(known["embed_dim"])


def check_masked_attention(architecture: str, module: nn.Module) -> None:
    """Raises ValueError unless its image tower can look at some patches of an image alone.

    It must cut images into patches that know nothing of each other until they attend, and answer by
    a token that attends to them. `nano-clip`'s stem looks beyond a patch.
    """
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    own: Any = module
    tower = own.visual
    if not (
        isinstance(tower, VisionTransformer)
        and isinstance(tower.conv1, nn.Conv2d)
        and tower.attn_pool is None
        and tower.pool_type == "tok"
        and tower.image_size[0] == tower.image_size[1]
        and all(type(block) is ResidualAttentionBlock for block in tower.transformer.resblocks)
    ):
        raise ValueError(
            "views: attention needs an image tower of separate patches and a class token, as "
            f"ViT-B-32 has, but {architecture} has another; leave attention out, or choose such a "
            "CLIP"
        )


@cache
def byte_pairs() -> Any:
    """open_clip's tokenizer of byte pairs, that of OpenAI's CLIP: `encode`, `__call__`."""
    return _open_clip().SimpleTokenizer()


def tokenizer_of(architecture: str) -> Tokenize:
    """Texts -> (N, context) int64 as that architecture of open_clip's takes them.

    Raises ValueError where its tokenizer needs a package that is not installed.
    """
    check_architecture(architecture)
    try:
        with _silenced():
            found: Tokenize = _open_clip().get_tokenizer(architecture)
    except (ImportError, OSError) as error:
        raise _unbuildable(architecture, error) from error
    return found


def published(architecture: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of weights by their tag: `hf_hub`, `url`, `mean`, ...

    Raises ValueError that lists the tags for one that there is not.
    """
    check_architecture(architecture)
    found: dict[str, Any] = _open_clip().get_pretrained_cfg(architecture, tag)
    if not found:
        tags = ", ".join(_open_clip().list_pretrained_tags_by_model(architecture)) or "none"
        raise ValueError(
            f"weights: must be a file or one of {architecture}'s tags ({tags}), but got {tag!r}"
        )
    return found


def check_activation(architecture: str, *, quick: bool, weights: str) -> None:
    """Raises ValueError unless its activation (QuickGELU or GELU) is what `weights` learnt with.

    Both have the same tensors, so that nothing else would tell.
    """
    if bool(_open_clip().get_model_config(architecture).get("quick_gelu")) != quick:
        other = architecture.removesuffix(_QUICK) + (_QUICK if quick else "")
        raise ValueError(f"architecture: {weights} needs {other}, but got {architecture}")


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put published weights of any layout that open_clip knows into `module`, in float32.

    OpenAI's layout is that of the state dict of a CLIP, with three numbers beside the weights.
    Raises RuntimeError as torch does where names or shapes are others.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    own: Any = module
    given = {name.removeprefix("module."): value for name, value in tensors.items()}
    for name in ("input_resolution", "context_length", "vocab_size"):
        given.pop(name, None)
    given = convert_state_dict(own, given)
    if "positional_embedding" in given and not hasattr(own, "positional_embedding"):
        given = convert_to_custom_text_state_dict(given)
    if "logit_scale" in given:
        given["logit_scale"] = given["logit_scale"].reshape(own.logit_scale.shape)
    own.load_state_dict({name: value.float() for name, value in given.items()})


def _unbuildable(architecture: str, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0]
    return ValueError(
        f"architecture: {architecture} cannot be built here ({reason}); "
        "install what it needs, or choose another, as ViT-B-32"
    )
