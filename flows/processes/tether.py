"""A process that neither outlives the one that started it nor hears the Ctrl+C meant for that one.

    python -m flows.processes.tether PARENT MODULE ARGUMENT...

runs a module as `python -m MODULE` does and ends when the process PARENT has.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_LOOK_EVERY_S = 0.5
_STOP_TIMEOUT_S = 5.0


def start(
    arguments: Sequence[str], *, env: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Run `python -m *arguments`; what it prints is added to the file `log`."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.processes.tether", str(os.getpid()), *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            # Ctrl+C goes to every process of the terminal's group, and we still need this one then.
            start_new_session=True,
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the process to end, and end it when it does not."""
    process.terminate()
    try:
        process.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with(parent: int) -> None:
    # Linux can signal a parent's death (PR_SET_PDEATHSIG), but means the thread that started us.
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_TIMEOUT_S)
    os._exit(1)


def main() -> None:
    """Watch the parent on a thread, and become the module."""
    parent, *arguments = sys.argv[1:]
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
