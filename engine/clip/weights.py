"""Weights of CLIPs, ours and published ones; whatever a file holds, only tensors are loaded."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor

from engine.clip import architectures
from engine.clip.archive import is_archive, read_archive
from engine.clip.card import ClipCard, config_from, read_card
from engine.clip.config import NANO, ClipConfig
from engine.clip.frames import Frame
from engine.clip.hub import hub_file
from engine.clip.model import Clip
from engine.model.checkpoints import local_checkpoint, read_tensors
from engine.model.integrity import WeightsError as WeightsError
from engine.model.integrity import check_sha256

_HEADER_KEY = "maskloop-clip"
_SUFFIX = ".safetensors"
# What open_clip's training writes has the weights by this name.
_WITHIN = "state_dict"
# Only OpenAI's own have it beside the weights.
_OPENAIS = "input_resolution"


def shipped() -> Path:
    """The weights of `nano-clip`, which come with maskloop."""
    return Path(__file__).parent / "shipped" / "nano-clip.safetensors"


def to_bytes(clip: Clip, *, dtype: torch.dtype = torch.float32) -> bytes:
    """A safetensors file with all that `load` needs; the same weights give the same bytes."""
    state: dict[str, Tensor] = clip.module.state_dict()
    tensors = {name: value.to("cpu", dtype).contiguous() for name, value in state.items()}
    header = {"config": asdict(clip.config), "frame": asdict(clip.frame)}
    return save(tensors, metadata={_HEADER_KEY: json.dumps(header, sort_keys=True)})


def load(source: Path | bytes, *, sha256: str | None = None) -> Clip:
    """What `to_bytes` wrote, on the CPU, float32; raises WeightsError for anything else."""
    where = "weights" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else local_checkpoint(source).read_bytes()
    check_sha256(hashlib.sha256(data).hexdigest(), sha256, where, "restore the file")
    header = _header(data)
    if header is None:
        raise WeightsError(
            f"{where}: not a CLIP of maskloop; give its architecture too, if it is open_clip's"
        )
    try:
        config, frame = config_from(header["config"]), _frame_from(header["frame"])
        clip = Clip.new(config, seed=0)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{where}: its header says no CLIP ({error}); write it anew") from error
    _fill(clip, _parsed(data, where), where)
    clip.frame = frame
    return clip


def load_with_card(path: Path) -> tuple[Clip, ClipCard]:
    """The CLIP in `path` and the card beside it; raises WeightsError unless they agree."""
    card = read_card(path)
    clip = load(path, sha256=card.sha256)
    if clip.config != card.config:
        raise WeightsError(f"{path}: its card must be of the same tokens; write it anew")
    return clip, card


def open_clip(
    architecture: str,
    weights: Path | str | None = None,
    *,
    sha256: str | None = None,
    cache: Path | None = None,
) -> Clip:
    """A CLIP of any architecture: `nano-clip`, or one of open_clip's.

    weights: a file (OpenAI's archives or their state dicts, what open_clip's training writes or
    publishes, or ours) or the name of a published tag, which comes out of the hub's local `cache`
    if it is there, else from the network. For `nano-clip` None is what ships.
    Raises ValueError for an unknown architecture or tag, WeightsError (one too) for a file that is
    missing, has another SHA-256, holds anything but tensors, or is of another architecture.
    """
    architectures.check_architecture(architecture)
    if weights is None and architecture != NANO:
        raise ValueError(f"weights: must be given for {architecture}: a file, or a published tag")
    tag = None
    if weights is None:
        path = shipped()
        if not path.is_file():
            raise WeightsError(
                f"{NANO}: its weights are not there; run: make pretrain-clip, or name another "
                "architecture with its weights"
            )
    elif isinstance(weights, str) and not _is_file_name(weights):
        tag = weights
        quick = bool(architectures.published(architecture, tag).get("quick_gelu"))
        architectures.check_activation(architecture, quick=quick, weights=tag)
        path = hub_file(architecture, tag, cache=cache)
    else:
        path = Path(weights)
    path = local_checkpoint(path, sha256=sha256)
    if path.suffix != _SUFFIX:
        archived = is_archive(path)
        tensors = read_archive(path) if archived else read_tensors(path, under=_WITHIN)
        return _published(architecture, tag, tensors, str(path))
    data = path.read_bytes()
    if _header(data) is None:
        return _published(architecture, tag, _parsed(data, str(path)), str(path))
    clip = load(path)
    if clip.config.architecture != architecture:
        raise WeightsError(
            f"{path}: must be of {architecture}, but is of {clip.config.architecture}"
        )
    return clip


def _is_file_name(name: str) -> bool:
    return Path(name).is_file() or "/" in name or bool(Path(name).suffix)


def _published(architecture: str, tag: str | None, tensors: dict[str, Tensor], where: str) -> Clip:
    if architecture == NANO:
        raise WeightsError(f"{where}: not a {NANO} of maskloop, which says what tokens it knows")
    if _OPENAIS in tensors:
        architectures.check_activation(architecture, quick=True, weights=where)
    clip = Clip.new(ClipConfig(architecture=architecture), seed=0)
    _fill(clip, tensors, where)
    clip.frame = architectures.frame_of(architecture, clip.module, tag)
    return clip


def _fill(clip: Clip, tensors: dict[str, Tensor], where: str) -> None:
    try:
        architectures.fill(clip.module, tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"{where}: not the weights of {clip.config.architecture}: {reason}"
        ) from error


def _parsed(data: bytes, where: str) -> dict[str, Tensor]:
    try:
        return parse(data)
    except SafetensorError as error:
        raise WeightsError(f"{where}: not a safetensors file ({error})") from error


def _header(data: bytes) -> dict[str, Any] | None:
    """What we wrote into a safetensors file beside its tensors; None where we did not."""
    try:
        length = int.from_bytes(data[:8], "little")
        found = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER_KEY])
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _frame_from(values: dict[str, Any]) -> Frame:
    lists = {name: tuple(values[name]) for name in ("hw", "mean", "std")}
    return Frame(**{**values, **lists})
