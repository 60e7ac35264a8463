"""The same config has the same name, in every process."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pytest

from engine.generation.config import GenerationConfig
from engine.identity import canonical_json, config_dict, config_hash


@dataclass(frozen=True)
class Inner:
    path: PurePosixPath
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    rate: float = 0.1


@dataclass(frozen=True)
class Other:
    inner: Inner
    rate: float = 0.1


CONFIG = Outer(Inner(PurePosixPath("a/b")))


def test_json_is_sorted_and_dense() -> None:
    assert canonical_json({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"\\u00e9"],"b":1}'
    assert canonical_json(CONFIG) == '{"inner":{"path":"a/b","sizes":[1,2]},"rate":0.1}'


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
    with pytest.raises(TypeError, match="cannot write object"):
        canonical_json(object())
    with pytest.raises(ValueError, match=r"^config: "):
        config_dict({"a": 1})
    with pytest.raises(ValueError, match=r"^config: "):
        config_hash(Outer)


def test_every_field_and_the_class_count() -> None:
    names = {
        config_hash(config)
        for config in (
            CONFIG,
            replace(CONFIG, rate=0.2),
            replace(CONFIG, inner=replace(CONFIG.inner, sizes=(1, 2, 3))),
            Other(CONFIG.inner),
        )
    }
    assert len(names) == 4
    assert config_hash(Outer(Inner(PurePosixPath("a/b")))) == config_hash(CONFIG)
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)


def test_another_process_gives_the_same_name() -> None:
    code = (
        "from engine.generation.config import GenerationConfig as C\n"
        "from engine.identity import config_hash\n"
        "print(config_hash(C()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == config_hash(GenerationConfig())
