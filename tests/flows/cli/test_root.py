"""What holds for every command: help of the whole, and Ctrl+C wherever it comes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from flows.workspace import Workspace

# A command that asks the lake all the time, as any other may at the moment of a signal.
ASKING = """
import sys
from flows import workspace
from flows.cli import app

@app.app.command()
def ask():
    lake = workspace.open_workspace().lake
    print("begins", flush=True)
    while True:
        lake.rows("SELECT count(*) FROM range(5000) a, range(5000) b WHERE a.range * b.range = 7")

sys.argv = ["maskloop", "ask"]
app.main()
"""


def test_the_help_of_the_whole_shows_an_example(cli: Callable[..., Any]) -> None:
    said = cli("--help")
    assert said.code == 0
    assert "Example: maskloop demo" in said.out


def test_ctrl_c_within_a_query(workspace: Workspace) -> None:
    # The database makes an error of its own of it.
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING],
        cwd=workspace.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert errors.splitlines() == [
        "error: stopped; what was committed stays, the same command goes on from there"
    ]
