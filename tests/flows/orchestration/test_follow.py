"""`maskloop follow` for real: a turn without being asked, and Ctrl+C."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.turns.history import last_turns
from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STOPPED = "error: stopped; what was committed stays, the same command goes on from there"


def test_a_turn_and_ctrl_c(
    maskloop: Any,
    filled: Workspace,
    at_free_ports: Callable[[Path], list[int]],
    set_setting: Callable[[Path, str, str], None],
    until: Callable[..., None],
) -> None:
    _, port = at_free_ports(filled.root)
    set_setting(filled.root, 'recipe = "nano"', 'recipe = "demo-quick"')
    follow = maskloop(filled.root, "follow")

    def turned() -> bool:
        assert follow.process.poll() is None, follow.lines
        return [facts.status for facts in last_turns(filled, 2)] == ["done"]

    until(turned, "a turn", 400)
    waiting = httpx.get(f"http://127.0.0.1:{port}/api/progress", timeout=60).json()
    assert waiting["counts"]["ready"] > 0
    follow.press_ctrl_c()
    code, lines = follow.end()
    assert code == 130
    assert lines[-1] == STOPPED
    assert not any("Traceback" in line for line in lines)
