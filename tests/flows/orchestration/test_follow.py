"""`maskloop follow` for real: a turn without being asked, killed in each of its steps; Ctrl+C."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.turns.history import last_turns
from flows.upkeep.checking import fsck
from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STOPPED = "error: stopped; what was committed stays, the same command goes on from there"


def test_a_turn_killed_in_each_step_and_ctrl_c(
    maskloop: Any,
    filled: Workspace,
    at_free_ports: Callable[[Path], list[int]],
    set_setting: Callable[[Path, str, str], None],
    until: Callable[..., None],
) -> None:
    _, port = at_free_ports(filled.root)
    set_setting(filled.root, 'recipe = "nano"', 'recipe = "demo-quick"')
    killed: set[str] = set()

    def turned() -> bool:
        assert follow.process.poll() is None, follow.lines
        return [facts.status for facts in last_turns(filled, 2)] == ["done"]

    def running() -> set[str]:
        # Of a step that was killed the row says so until the next one looks.
        rows = filled.lake.rows("SELECT stage FROM runs WHERE status = 'running'")
        return {row["stage"] for row in rows} - killed

    while True:
        follow = maskloop(filled.root, "follow")
        until(lambda: turned() or bool(running()), "a step, or the whole turn", 400)
        if turned():
            break
        killed |= running()
        follow.kill_all()
    assert killed >= {"turn", "train", "assist"}
    # Whatever was begun anew, each thing is there once.
    runs = filled.lake.rows(
        "SELECT stage, count(*) AS n FROM runs WHERE status = 'done' GROUP BY 1"
    )
    done = {row["stage"]: row["n"] for row in runs}
    assert (done["turn"], done["train"], done["assist"]) == (1, 1, 1)
    assert fsck(filled) == []
    waiting = httpx.get(f"http://127.0.0.1:{port}/api/progress", timeout=60).json()
    assert waiting["counts"]["ready"] > 0
    follow.press_ctrl_c()
    code, lines = follow.end()
    assert code == 130
    assert lines[-1] == STOPPED
    assert not any("Traceback" in line for line in lines)
