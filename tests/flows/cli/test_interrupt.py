"""Ctrl+C in a real process: a word, exit code 130, nothing half done."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from flows import workspace as workspaces
from flows.workspace import Workspace


def test_ctrl_c_leaves_the_store_as_it_was(
    workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    # A pipe that nobody writes to: the command waits for it, and so for the signal.
    pipe = tmp_path / "gold.txt"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "flows.cli.app", "import", "coco", str(drawn.truth)]
    command += ["--images", str(drawn.folder), "--gold-list", str(pipe)]
    process = subprocess.Popen(
        command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    writer = os.open(pipe, os.O_WRONLY)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    os.close(writer)
    assert (process.returncode, out) == (130, "")
    assert errors.splitlines()[-1].startswith("error: stopped; what was committed stays")
    assert workspaces.open_workspace(workspace.root).lake.snapshot() == workspace.lake.snapshot()
