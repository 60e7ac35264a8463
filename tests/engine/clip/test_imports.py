"""What needs no model waits for none: open_clip and torch take seconds to import."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("engine.clip.config, engine.clip.classes", "torch"),
        ("engine.clip.weights, engine.clip.model, engine.clip.trainer", "open_clip"),
        ("engine.clip.weights, engine.clip.nearest", "segment_anything"),
        ("flows.cli.app", "open_clip"),
    ],
    ids=["names of classes", "loading and training", "search", "the command line"],
)
def test_importing_does_not_import(modules: str, absent: str) -> None:
    code = f"import sys, {modules}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
