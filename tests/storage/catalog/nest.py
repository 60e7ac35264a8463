"""nest.py PLACE: forks drivers that label the shards of the store at PLACE, and kills them.

A driver starts in a few milliseconds, because all it needs was loaded here before. Each line of
standard input is an order, and each has a line for an answer: `start` -> a pid; `poll PID` -> its
exit code, or `runs`; `kill PID` -> its exit code; `wait PID` -> its exit code. PLACE is pickled and
in hex.
"""

import os
import pickle
import random
import signal
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from storage.catalog.lake import Lake
from storage.catalog.place import Place


def start(place: Place, driver: ModuleType) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # Or all would pick the same shards in the same order.
        random.seed()
        driver.label_shards(place)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, how: int) -> str:
    found, status = os.waitpid(pid, how)
    return "runs" if found == 0 else str(os.waitstatus_to_exitcode(status))


def killed(pid: int) -> str:
    os.kill(pid, signal.SIGKILL)
    return ended(pid, 0)


def main(place: Place) -> None:
    spec = spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
    assert spec is not None
    assert spec.loader is not None
    driver = module_from_spec(spec)
    spec.loader.exec_module(driver)
    # Loads extensions and all else that comes with the first connection.
    Lake.open(place).close()
    for line in sys.stdin:
        order, *pids = line.split()
        if order == "start":
            answer = str(start(place, driver))
        elif order == "kill":
            answer = killed(int(pids[0]))
        else:
            answer = ended(int(pids[0]), os.WNOHANG if order == "poll" else 0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(pickle.loads(bytes.fromhex(sys.argv[1])))
