"""Commands as real processes, each in a group of its own as a terminal makes one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.base import PrefectHttpxSyncClient

from flows.processes import tether
from flows.processes.prefect_server import Answer, ask, free_port

START_S = 180


def until(holds: Callable[[], object], what: str, timeout_s: float = START_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.2)


def alive(pid: int) -> bool:
    """Whether there is such a process, not counting one that only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> dict[int, list[str]]:
    """The command line of each process that `pid` has started, by process id."""
    found = {}
    # A thread, a child or `pid` itself may end while we look.
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                for child in (task / "children").read_text().split():
                    found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().split("\0")
    return found


def below(pid: int) -> list[int]:
    """All processes that `pid` and its descendants have started."""
    return [one for child in children_of(pid) for one in (child, *below(child))]


@dataclass(frozen=True)
class Command:
    """A `maskloop` command that runs."""

    process: "subprocess.Popen[bytes]"
    printed: Path

    @property
    def lines(self) -> list[str]:
        return self.printed.read_text().splitlines()

    @property
    def children(self) -> dict[int, list[str]]:
        """The command line of each process that this one has started, by process id."""
        return children_of(self.process.pid)

    def kill_all(self) -> None:
        """The command and all processes below it at once, so that none can say goodbye."""
        for pid in [self.process.pid, *below(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def until_served(self) -> tuple[int, str]:
        """(process id, API address) of the Prefect server that the command has started."""
        found: list[tuple[int, str]] = []

        def answers() -> bool:
            assert self.process.poll() is None, self.lines
            found[:] = [
                (pid, f"http://127.0.0.1:{words[words.index('--port') + 1]}/api")
                for pid, words in self.children.items()
                if "flows.processes.tether" in words
            ]
            return bool(found) and ask(found[0][1]) is Answer.PREFECT

        until(answers, "a Prefect server")
        return found[0]

    def until_says(self, text: str) -> None:
        def said() -> bool:
            assert self.process.poll() is None, self.lines
            return any(text in line for line in self.lines)

        until(said, text)

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout_s: float = START_S) -> tuple[int, list[str]]:
        """(exit code, lines printed) once the command has ended."""
        return self.process.wait(timeout=timeout_s), self.lines


Run = Callable[..., Command]


@pytest.fixture
def maskloop(tmp_path: Path) -> Iterator[Run]:
    """Starts `maskloop` with these arguments in a workspace."""
    started: list[Command] = []

    def run(root: Path, *arguments: str, **variables: str) -> Command:
        kept = {name: value for name, value in os.environ.items() if "PREFECT_" not in name}
        printed = tmp_path / f"printed-{len(started)}.txt"
        with printed.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli.app", *arguments],
                cwd=root,
                env={**kept, **variables},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        started.append(Command(process, printed))
        return started[-1]

    yield run
    for command in started:
        command.process.kill()
        command.process.wait()


@pytest.fixture(scope="module")
def foreign_prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server that no workspace has started."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    process = tether.start(
        ["prefect", "server", "start", "--no-ui", "--port", str(port)],
        env={**os.environ, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"},
        log=home / "server.log",
    )
    api_url = f"http://127.0.0.1:{port}/api"
    until(lambda: ask(api_url) is Answer.PREFECT, "a Prefect server")
    yield api_url
    tether.stop(process)


@pytest.fixture
def prefect_api() -> Iterator[Callable[[str], PrefectHttpxSyncClient]]:
    """A client of the Prefect API at an address; it asks again when the server is too busy."""
    with ExitStack() as opened:

        def client(api_url: str) -> PrefectHttpxSyncClient:
            return opened.enter_context(PrefectHttpxSyncClient(base_url=api_url, timeout=30))

        yield client


@pytest.fixture
def port() -> int:
    """A port on which nobody listens."""
    return free_port()


@pytest.fixture
def set_setting() -> Callable[[Path, str, str], None]:
    """Replaces a line of a workspace's `maskloop.toml`."""

    def change(root: Path, old: str, new: str) -> None:
        path = root / "maskloop.toml"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    return change


@pytest.fixture
def at_free_ports(set_setting: Callable[[Path, str, str], None]) -> Callable[[Path], list[int]]:
    """Gives a workspace free ports: (Prefect's, the annotator's)."""

    def change(root: Path) -> list[int]:
        ports = [free_port(), free_port()]
        for usual, port in zip((4200, 8765), ports, strict=True):
            set_setting(root, f"port = {usual}", f"port = {port}")
        return ports

    return change


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., None]:
    return until


@pytest.fixture
def still_alive() -> Callable[[int], bool]:
    return alive
