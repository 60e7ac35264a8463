"""The tensors of a TorchScript archive, in which OpenAI published CLIP, without running its code.

An archive is a zip file with a pickle of modules as plain objects, the bytes of their tensors, and
code. torch reads the pickle only together with the code; here the code stays unread, and the pickle
may name nothing but tensors and the modules, which become empty boxes for their attributes.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.model.integrity import WeightsError

_MODULES = "__torch__"
_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
# Masks of attention are made anew; a state dict has none.
_NOT_WEIGHTS = ("attn_mask",)


class _Module:
    """A module of the archive: a box for its attributes."""


def is_archive(path: Path) -> bool:
    """Whether `path` is a TorchScript archive, which has code beside its tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(_within(name) == "constants.pkl" for name in archive.namelist())


def read_archive(path: Path) -> dict[str, Tensor]:
    """Its tensors by the names that a state dict has; raises WeightsError for anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {_within(name): name for name in archive.namelist()}
            storages = _Storages(lambda key: archive.read(names[f"data/{key}"]))
            with archive.open(names["data.pkl"]) as stream:
                root = _Reader(stream, storages).load()
            return dict(_tensors(root, ""))
    except Exception as error:  # pickle raises many kinds for what is none
        raise WeightsError(f"{path}: not an archive of weights ({error})") from error


def _within(name: str) -> str:
    """A name in a zip file without the folder that all are in."""
    return name.partition("/")[2]


class _Storages:
    """The numbers of the archive, read once each."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._known: dict[str, Tensor] = {}

    def of(self, key: str, dtype: torch.dtype) -> Tensor:
        """All numbers of one storage."""
        if key not in self._known:
            self._known[key] = torch.frombuffer(bytearray(self._read(key)), dtype=dtype)
        return self._known[key]


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any, storages: _Storages) -> None:
        super().__init__(stream)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == _MODULES:
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no weight")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it names {kind!r}, which is no storage")
        return self._storages.of(key, dtype)


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor) and name not in _NOT_WEIGHTS:
            yield f"{prefix}{name}", value
