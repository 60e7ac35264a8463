"""A tethered process: deaf to its parent's Ctrl+C, gone soon after its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.processes import tether

# Starts a child from a thread that ends at once, says its process id, and outlives Ctrl+C.
PARENT = """
import os, signal, sys, threading, time
from pathlib import Path
from flows.processes import tether

def begin():
    child = tether.start(["http.server", "0"], env=os.environ, log=Path(sys.argv[1]))
    print(child.pid, flush=True)

signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
thread = threading.Thread(target=begin)
thread.start()
thread.join()
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log.txt")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


def child_of(parent: "subprocess.Popen[str]", log: Path) -> int:
    """The child's process id, once it serves."""
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    deadline = time.monotonic() + 60
    while "Serving" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return pid


def exists(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be reaped has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() != ""
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_ends_with_its_parent_and_not_with_the_thread_that_started_it(
    parent: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    child = child_of(parent, tmp_path / "log.txt")
    # Twice as long as it takes to look.
    time.sleep(1.0)
    assert exists(child)
    parent.kill()
    deadline = time.monotonic() + 20
    while exists(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_does_not_hear_ctrl_c(parent: "subprocess.Popen[str]", tmp_path: Path) -> None:
    child = child_of(parent, tmp_path / "log.txt")
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "heard\n"
    time.sleep(0.5)
    assert exists(child)


def test_one_that_does_not_end_when_asked_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(tether, "_STOP_TIMEOUT_S", 0.2)
    log = tmp_path / "log.txt"
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    child = tether.start(["stubborn"], env={**os.environ, "PYTHONPATH": paths}, log=log)
    while "deaf" not in log.read_text():
        time.sleep(0.05)
    tether.stop(child)
    assert child.returncode == -signal.SIGKILL
