"""The services of infra/compose.yaml as plain processes on this machine, and the loop across them.

Each runs the very command of its service; only names of hosts, ports and folders become those of
this machine, and the programs are the ones of Python's packages.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.processes.prefect_server import Answer, ask, free_port
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, open_workspace

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.s3, pytest.mark.timeout(900)]
INFRA = Path(__file__).parents[3] / "infra"
OF_S3 = ("master.port", "volume.port", "filer.port")
LOOP_S = 600


@dataclass
class Team:
    """compose.yaml on this machine: what is asked of its hosts, ports and folders comes here."""

    folder: Path
    postgres: str
    bin: Path = Path(sys.executable).parent
    ports: Mapping[int, int] = field(
        default_factory=lambda: {port: free_port() for port in (4200, 6379, 8333, 8765)}
    )
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
        (self.folder / "workspace").mkdir()
        (self.folder / "s3").mkdir()
        settings = self.here((INFRA / "workspace.toml").read_text())
        # Its server is the tests' own, which listens at a socket.
        settings = re.sub(r'"postgresql://.*"', f'"{self.postgres}"', settings)
        # Nothing but what the test says.
        settings = settings.replace("[annotator]", "[annotator]\nbatch_done_share = 0")
        (self.folder / "workspace" / "maskloop.toml").write_text(settings)

    def here(self, text: str) -> str:
        for port, ours in self.ports.items():
            text = text.replace(str(port), str(ours))
        text = text.replace("0.0.0.0", "127.0.0.1").replace("/data", f"{self.folder}/s3")
        text = re.sub(r"(?<=[/=@])(postgres|s3|prefect|ray-head)(?=:\d)", "127.0.0.1", text)
        return re.sub(r"^ray-head(?=:\d)", "127.0.0.1", text).replace(
            "/workspace", f"{self.folder}/workspace"
        )

    def environment(self, service: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "RAY_", "AWS_", "MASKLOOP_HOME"))
        }
        told = {
            name: re.sub(r"\$\{(\w+):\?[^}]*\}", r"secret-of-\1", self.here(str(value)))
            for name, value in self.services[service].get("environment", {}).items()
        }
        return {**kept, **told, "PATH": f"{self.bin}:{kept['PATH']}"}

    def run(self, service: str, command: str, *more: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                [*shlex.split(self.here(command)), *more],
                cwd=self.folder / "workspace",
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def start(self, service: str, *more: str, program: str = "") -> "subprocess.Popen[bytes]":
        """The command of a service; `program` where the image has it without a name."""
        return self.run(service, f"{program} {self.services[service]['command']}", *more)

    def finish(self, service: str, command: str) -> str:
        """A command in the container of a service, to its end; what its log then holds."""
        code = self.run(service, command).wait(timeout=LOOP_S)
        log = (self.folder / f"{service}.log").read_text()
        assert code == 0, log
        return log

    def stop(self) -> None:
        for process in reversed(self.started):
            # Ray's own processes are below `ray start`, or were let go by it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def team(tmp_path: Path, postgres: Any) -> Iterator[Team]:
    with ExitStack() as stack:
        made = Team(tmp_path, postgres.create("team"))
        stack.callback(made.stop)
        yield made


def test_the_loop_across_all_services(
    team: Team,
    tmp_path: Path,
    draw: Callable[[Path, int], Any],
    until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports = [f"-{name}={free_port()}" for name in OF_S3]
    inner = [f"-{name}.grpc={free_port()}" for name in (*OF_S3, "s3.port")]
    team.start("s3", "-ip=127.0.0.1", "-filer", *ports, *inner, program="weed")
    team.start("prefect")
    team.start("ray-head")
    prefect = f"http://127.0.0.1:{team.ports[4200]}/api"
    until(lambda: ask(prefect) is Answer.PREFECT, "Prefect's server")
    team.start("ray-worker", "--num-cpus=1")
    until(lambda: refuses_strangers(team.ports[8333]), "the S3 server")

    init = team.services["init"]["command"]
    assert "workspace" in team.finish("init", init)
    assert "at snapshot" in team.finish("init", init), "there is one now"
    team.finish("maskloop", "maskloop annotators add ada --role lead")
    team.start("maskloop")
    annotator = f"http://127.0.0.1:{team.ports[8765]}/"
    until(lambda: answers(annotator), "the annotator")

    drawn = draw(tmp_path, 8)
    team.finish("maskloop", f"maskloop import coco {drawn.truth} --images {drawn.folder}")
    known = f"--annotate simulated --truth {drawn.truth}"
    team.finish("maskloop", f"maskloop loop --recipe demo-quick --iterations 1 {known}")

    for name, value in team.environment("maskloop").items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    with closing(open_workspace(team.folder / "workspace")) as opened:
        check_store(opened)
    flows = httpx.post(f"{prefect}/flows/filter", json={}).json()
    assert {"loop", "generate"} <= {flow["name"] for flow in flows}


def refuses_strangers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 403
    except httpx.HTTPError:
        return False


def answers(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.HTTPError:
        return False
    return True


def check_store(opened: Workspace) -> None:
    assert opened.lake.rows("SELECT count(DISTINCT stage) AS n FROM masks")[0]["n"] >= 2
    assert opened.lake.rows("SELECT count(*) AS n FROM image_sets")[0]["n"] > 0
    assert opened.objects.address("models/x").startswith("s3://maskloop/store/")
    assert fsck(opened) == []
