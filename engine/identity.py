"""Names made of content: the same config has the same hash, in every process and on every day."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
from pathlib import PurePath
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; raises ValueError for NaN and TypeError for objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    raise TypeError(f"canonical_json: cannot write {type(value).__name__} {value!r}")


def config_dict(config: Any) -> dict[str, Any]:
    """The fields of a config dataclass as plain values."""
    if not is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"config: must be a dataclass instance, but got {config!r}")
    return asdict(config)


def config_hash(config: Any) -> str:
    """16 hex digits that name a config: its class and all its fields."""
    content = {"class": type(config).__name__, "fields": config_dict(config)}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
