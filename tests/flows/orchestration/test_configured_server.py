"""A Prefect server that somebody else runs: named in the environment or in `maskloop.toml`."""

import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.orchestration.names import deployment_name
from flows.processes.prefect_server import Answer, ask
from flows.workspace import Workspace

Set = Callable[[Path, str, str], None]
Api = Callable[[str], httpx.Client]


class _Pages(BaseHTTPRequestHandler):
    """A page, but for `/locked` (401), `/gone` and `/accounts/1` (404), and `/api`, as Prefect."""

    def do_GET(self) -> None:
        path = self.path.removesuffix("/health")
        self.send_response({"/locked": 401, "/gone": 404, "/accounts/1": 404}.get(path, 200))
        self.end_headers()
        self.wfile.write(b"true" if path == "/api" else b"<html>")

    def log_message(self, *_: object) -> None:
        """Not on the test's output."""


@pytest.fixture
def pages() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api", Answer.PREFECT),
        ("/locked", Answer.PREFECT),
        ("/accounts/1", Answer.PREFECT),
        ("", Answer.OTHER),
        ("/gone", Answer.OTHER),
    ],
    ids=["healthy", "with a password", "Prefect Cloud", "a page", "no such page"],
)
def test_who_answers(pages: str, path: str, answer: Answer) -> None:
    assert ask(pages + path) is answer


def test_nobody_answers(port: int) -> None:
    assert ask(f"http://127.0.0.1:{port}/api") is Answer.NOBODY


def test_a_program_without_http_is_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            connection.recv(1024)
            connection.sendall(b"220 mail\r\n")
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        assert ask(f"http://127.0.0.1:{server.getsockname()[1]}/api") is Answer.OTHER
        thread.join()


def test_an_address_where_nobody_answers(maskloop: Any, workspace: Workspace, port: int) -> None:
    api_url = f"http://127.0.0.1:{port}/api"
    for command in ("merge", "serve"):
        code, lines = maskloop(workspace.root, command, PREFECT_API_URL=api_url).end()
        assert code == 1
        assert lines == [
            f"error: PREFECT_API_URL: no Prefect server answers at {api_url}; "
            "start it or unset this"
        ]


def test_an_address_without_api(
    maskloop: Any, workspace: Workspace, pages: str, set_setting: Set
) -> None:
    set_setting(workspace.root, 'api_url = ""', f'api_url = "{pages}"')
    code, [line] = maskloop(workspace.root, "merge").end()
    assert code == 1
    assert line.startswith(f"error: {workspace.root}/maskloop.toml: prefect.api_url: what answers ")
    assert "whose address ends in /api" in line


def test_an_address_that_is_none(maskloop: Any, workspace: Workspace) -> None:
    code, [line] = maskloop(workspace.root, "merge", PREFECT_API_URL="localhost:4200").end()
    assert code == 2
    assert line.startswith("error: PREFECT_API_URL: must be like http://127.0.0.1:4200/api, but ")


@pytest.mark.slow
def test_a_failing_flow_says_one_line(
    maskloop: Any, workspace: Workspace, foreign_prefect: str, prefect_api: Api
) -> None:
    run = maskloop(workspace.root, "train", PREFECT_API_URL=foreign_prefect)
    code, lines = run.end()
    assert code == 2, "no labels: the user can put it right"
    assert lines[0] == f"Prefect: {foreign_prefect.removesuffix('/api')}"
    assert len(lines) == 2
    assert lines[1].startswith("error: ")
    logs = prefect_api(foreign_prefect).post("logs/filter", json={}).json()
    assert any("Traceback" in log["message"] for log in logs), "the server has the whole of it"


@pytest.mark.slow
def test_workspaces_of_one_name_have_their_own_deployments(
    maskloop: Any,
    empty_root: Path,
    tmp_path: Path,
    foreign_prefect: str,
    at_free_ports: Any,
    prefect_api: Api,
) -> None:
    names = set()
    for place in ("here", "there"):
        root = Path(shutil.copytree(empty_root, tmp_path / place / "masks"))
        at_free_ports(root)
        serve = maskloop(root, "serve", PREFECT_API_URL=foreign_prefect)
        serve.until_says("Ctrl+C stops")
        names.add(deployment_name(root, shared=True))
    answer = prefect_api(foreign_prefect).post("deployments/filter", json={})
    found = Counter(item["name"] for item in answer.json())
    assert set(found) == names
    assert len(set(found.values())) == 1, "each has a deployment of every flow"
    assert all(name.startswith("masks-") for name in names)
