"""Weights on disk: safetensors, which hold nothing but tensors, with the config in the header."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save

from engine.model.card import ModelCard, read_card
from engine.model.checkpoints import local_checkpoint, read_tensors
from engine.model.download import Progress
from engine.model.integrity import WeightsError as WeightsError
from engine.model.integrity import check_sha256
from engine.model.mobile_sam import from_mobile_sam
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam

_HEADER_KEY = "maskloop"


def shipped() -> Path:
    """The weights of the default model, which come with maskloop."""
    return Path(__file__).parent / "shipped" / "nano.safetensors"


def to_bytes(
    model: PromptableSam, config: ModelConfig, *, dtype: torch.dtype = torch.float32
) -> bytes:
    """The weights of `model` as a safetensors file; the same weights give the same bytes."""
    tensors = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    return save(tensors, metadata={_HEADER_KEY: json.dumps(asdict(config), sort_keys=True)})


def read_config(data: bytes) -> ModelConfig:
    """The config in the header of `data`; raises WeightsError."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        return ModelConfig(**json.loads(header["__metadata__"][_HEADER_KEY]))
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"weights: not a maskloop safetensors file ({error})") from error


def load(source: bytes | Path, *, sha256: str | None = None) -> tuple[PromptableSam, ModelConfig]:
    """A model in evaluation mode, float32; raises WeightsError when the SHA-256 is another."""
    data = source.read_bytes() if isinstance(source, Path) else source
    check_sha256(hashlib.sha256(data).hexdigest(), sha256, "weights", "restore the file")
    config = read_config(data)
    try:
        tensors = parse(data)
    except SafetensorError as error:
        raise WeightsError(f"weights: not a safetensors file ({error})") from error
    return _filled(config, tensors, "weights"), config


def load_with_card(path: Path) -> tuple[PromptableSam, ModelCard]:
    """The model in `path` and the card beside it; raises WeightsError unless they agree."""
    card = read_card(path)
    model, config = load(path, sha256=card.sha256)
    if config != card.config:
        raise WeightsError(f"{path}: is {config}, but its card says {card.config}; write it anew")
    return model, card


def load_meta_checkpoint(
    source: Path | str,
    architecture: str,
    *,
    sha256: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> PromptableSam:
    """Meta's `sam_vit_*.pth` or MobileSAM's `mobile_sam.pt` (architecture `vit_t`).

    `source`: a path or an https URL, downloaded once into `cache` (default `~/.cache/maskloop`);
    `checkpoints.PUBLISHED` has the public ones. Only tensors are read. Raises WeightsError.
    """
    path = local_checkpoint(source, sha256=sha256, cache=cache, progress=progress)
    tensors = read_tensors(path)
    if architecture == "vit_t":
        tensors = from_mobile_sam(tensors)
    return _filled(ModelConfig(architecture=architecture), tensors, str(path))


def _filled(config: ModelConfig, tensors: dict[str, torch.Tensor], where: str) -> PromptableSam:
    model = build_model(config, seed=0)
    try:
        model.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"{where}: not the weights of {config.architecture}: {reason}"
        ) from error
    return model
