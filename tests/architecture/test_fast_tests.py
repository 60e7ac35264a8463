"""`make test` runs the flows' tests beside the engine's, the rest and the page's.

`make test-slow` runs those of the flows beside the rest.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "test.sh"
PYTHON = """#!/bin/sh
case "$*" in
*absent_packages*) echo "engine: $*"; exit "$ENGINE" ;;
*--ignore*) echo "rest: $*"; exit "$REST" ;;
*) echo "flows: $*"; exit "$FLOWS" ;;
esac
"""

NPM = """#!/bin/sh
echo "page: $*"
exit "$PAGE"
"""


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(
    folder: Path,
    *arguments: str,
    speed: str = "fast",
    engine: int = 0,
    rest: int = 0,
    flows: int = 0,
    page: int = 0,
) -> tuple[int, list[str]]:
    """The exit code, and what each runner of tests was told."""
    python = program(folder / "python", PYTHON)
    program(folder / "npm", NPM)
    program(folder / "node", "#!/bin/sh\n")
    done = subprocess.run(
        ["sh", SCRIPT, python, speed, *arguments],
        cwd=folder,
        env={
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "ENGINE": str(engine),
            "REST": str(rest),
            "FLOWS": str(flows),
            "PAGE": str(page),
            "PATH": f"{folder}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if ": -m pytest" in line or "page" in line]
    return done.returncode, [line for line in told if not line.startswith("====")]


def test_four_share_all_tests(tmp_path: Path) -> None:
    code, told = run(tmp_path)
    assert code == 0
    flows, engine, rest, page = told
    assert flows == "flows: -m pytest -m not slow --durations 30 tests/flows"
    assert engine.endswith("-p absent_packages tests/engine")
    assert rest.endswith(" --ignore tests/engine --ignore tests/flows")
    assert page == "page: test"


@pytest.mark.parametrize(
    "failing", [("engine",), ("rest",), ("flows",), ("page",), ("engine", "rest", "flows", "page")]
)
def test_each_can_fail(tmp_path: Path, failing: tuple[str, ...]) -> None:
    code, told = run(tmp_path, **dict.fromkeys(failing, 1))
    assert code == 1
    assert len(told) == 4


def test_told_to_stop_it_takes_all_along(tmp_path: Path) -> None:
    python = program(
        tmp_path / "python", f'#!/bin/sh\necho "$$" >>{tmp_path}/pids\nexec sleep 600\n'
    )
    script = subprocess.Popen(
        ["sh", SCRIPT, python, "fast"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    pids: list[int] = []
    while len(pids) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        pids = (
            [int(line) for line in (tmp_path / "pids").read_text().split()]
            if (tmp_path / "pids").exists()
            else []
        )
    script.terminate()
    # A shell hears of it when what runs in front of it is over, which Ctrl+C stops as well.
    [in_front] = [pid for pid in pids if parent_of(pid) == script.pid]
    os.kill(in_front, signal.SIGTERM)
    script.wait(timeout=20)
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_arguments_go_to_one(tmp_path: Path) -> None:
    assert run(tmp_path, "-k", "rle", flows=3) == (3, ["flows: -m pytest -m not slow -k rle"])


def test_the_slow_ones_are_shared_by_two(tmp_path: Path) -> None:
    code, told = run(tmp_path, speed="slow", rest=1)
    assert code == 1
    flows, rest = told
    assert flows == "flows: -m pytest -m slow --durations 30 tests/flows"
    assert rest.startswith("rest: -m pytest -m slow ")
    assert rest.endswith(" --ignore tests/flows")
