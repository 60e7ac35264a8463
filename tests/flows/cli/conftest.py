"""Commands in this process: what they print, and what they leave in the store."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli import app


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run `maskloop` with these arguments."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["maskloop", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code or 0
        printed = capsys.readouterr()
        assert isinstance(code, int)
        return Said(code, printed.out, printed.err)

    return run


@pytest.fixture
def some(pictures: Path) -> Path:
    """Four drawn pictures, one of them in a folder below."""
    for path in sorted(pictures.iterdir())[4:]:
        path.unlink()
    below = pictures / "below"
    below.mkdir()
    sorted(pictures.glob("*.png"))[0].rename(below / "first.png")
    return pictures
