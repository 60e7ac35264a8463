"""`maskloop serve` where something runs already: a line that says what, and nothing disturbed."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.workspace import Workspace

Set = Callable[[Path, str, str], None]


def test_a_port_that_another_program_has(
    maskloop: Any, workspace: Workspace, set_setting: Set
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        set_setting(workspace.root, "port = 4200", f"port = {port}")
        code, lines = maskloop(workspace.root, "serve").end()
    assert code == 1
    assert lines == [
        f"error: serve: port {port} is taken by another program; "
        "change prefect.port in maskloop.toml"
    ]


@pytest.mark.slow
def test_a_port_that_another_prefect_server_has(
    maskloop: Any, workspace: Workspace, foreign_prefect: str, set_setting: Set
) -> None:
    port = foreign_prefect.rpartition(":")[2].removesuffix("/api")
    set_setting(workspace.root, "port = 4200", f"port = {port}")
    code, [line] = maskloop(workspace.root, "serve").end()
    assert code == 1
    assert line.startswith(f"error: serve: on port {port} another Prefect server listens; change ")
    assert f'prefect.api_url = "{foreign_prefect}"' in line


@pytest.mark.slow
def test_a_second_serve_is_refused_and_the_first_goes_on(
    maskloop: Any, workspace: Workspace, at_free_ports: Callable[[Path], list[int]]
) -> None:
    prefect, annotator = at_free_ports(workspace.root)
    first = maskloop(workspace.root, "serve")
    first.until_says("Ctrl+C stops")
    code, [line] = maskloop(workspace.root, "serve").end()
    assert code == 1
    assert line == (
        f"error: serve: runs already in this workspace at http://127.0.0.1:{annotator}, "
        f"Prefect at http://127.0.0.1:{prefect}/api; stop that one first"
    )
    assert first.process.poll() is None
    code, lines = maskloop(workspace.root, "merge").end()
    assert (code, lines[0]) == (0, f"Prefect: http://127.0.0.1:{prefect}")
