"""Weights on disk: safetensors, which hold nothing but tensors, with the config in the header."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save

from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam

_HEADER_KEY = "maskloop"


class WeightsError(ValueError):
    """A file that is not what it should be; never half loaded."""


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
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise WeightsError(f"weights: SHA-256 must be {sha256}, but is {found}; restore the file")
    config = read_config(data)
    try:
        tensors = parse(data)
    except SafetensorError as error:
        raise WeightsError(f"weights: not a safetensors file ({error})") from error
    return _filled(config, tensors, "weights"), config


def load_meta_checkpoint(path: Path, architecture: str) -> PromptableSam:
    """Meta's `sam_vit_*.pth`; only tensors are read. Raises WeightsError."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; download Meta's checkpoint there") from error
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise WeightsError(f"{path}: not a checkpoint of tensors ({error})") from error
    if not isinstance(tensors, dict):
        raise WeightsError(f"{path}: expected a state dict, but found {type(tensors).__name__}")
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
