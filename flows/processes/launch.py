"""Before the first flow: which Prefect server hears of it, decided once and said in one line.

Prefect reads its environment when it is imported, so nothing else imports `flows.orchestration`
before `prepare` has run.
"""

import atexit
import importlib
import json
import os
from collections.abc import Callable
from types import ModuleType

from flows.errors import StageError, UsageError
from flows.locks import is_locked
from flows.processes import prefect_server
from flows.processes.prefect_server import Answer, Server
from flows.settings import FILE_NAME
from flows.workspace import Workspace

SERVE = "serve"
RUNNING_FILE = "serve.json"
_ASK_TIMEOUT_S = 5.0
# Prefect sends none more often. The automation of `maskloop serve` waits for three.
_HEARTBEAT_S = 30

# One for the process: Prefect settles on one address when it is imported.
_temporary: Server | None = None


def prepare(workspace: Workspace) -> str:
    """Point Prefect at a server, our own if need be; returns the line to tell the user.

    Raises UsageError or StageError for a configured server that does not answer.
    """
    api_url = configured(workspace) or _served_here(workspace)
    if api_url:
        report_to(api_url)
        _report_silently()
        return f"Prefect: {api_url.removesuffix('/api')}"
    # Its runs stay in the workspace, where `maskloop serve` shows them.
    os.environ.setdefault("PREFECT_HOME", str(workspace.folder(".prefect")))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    # Its workers log under names that the level above does not reach.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    _start_temporary(workspace)
    return "Prefect: no server configured, running here (maskloop serve starts one with a UI)"


def report_to(api_url: str) -> None:
    """Let Prefect, once it is imported, report to the server at this address."""
    os.environ["PREFECT_API_URL"] = api_url
    # So that the server notices when a process is killed.
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(_HEARTBEAT_S))


def configured(workspace: Workspace) -> str:
    """The address of the configured Prefect API, which answers; empty when there is none."""
    setting = workspace.settings.prefect.api_url
    api_url = (setting or os.environ.get("PREFECT_API_URL", "")).rstrip("/")
    if api_url:
        name = f"{workspace.root / FILE_NAME}: prefect.api_url" if setting else "PREFECT_API_URL"
        _check_answers(name, api_url)
    return api_url


def _check_answers(name: str, api_url: str) -> None:
    if not api_url.startswith(("http://", "https://")):
        raise UsageError(f"{name}: must be like http://127.0.0.1:4200/api, but got {api_url!r}")
    who = prefect_server.ask(api_url, timeout_s=_ASK_TIMEOUT_S)
    if who is Answer.NOBODY:
        raise StageError(f"{name}: no Prefect server answers at {api_url}; start it or unset this")
    if who is Answer.OTHER:
        raise StageError(
            f"{name}: what answers at {api_url} is no Prefect API, whose address ends in /api; "
            "correct or unset this"
        )


def _report_silently() -> None:
    # What a flow logs goes to the server; the command says in one line what went wrong.
    if "PREFECT_LOGGING_LEVEL" not in os.environ:
        os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"


def _served_here(workspace: Workspace) -> str:
    api_url = str(running(workspace).get("prefect_api", ""))
    return api_url if api_url and prefect_server.ask(api_url) is Answer.PREFECT else ""


def running(workspace: Workspace) -> dict[str, str]:
    """What the `maskloop serve` that runs in this workspace has written; empty without one."""
    if not is_locked(workspace, SERVE):
        return {}
    path = workspace.folder(".locks") / RUNNING_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _start_temporary(workspace: Workspace) -> None:
    global _temporary
    _temporary = prefect_server.start_temporary(workspace)
    # Before Prefect's own, so that it is the last to go.
    atexit.register(_temporary.stop)
    os.environ["PREFECT_API_URL"] = _temporary.api_url


def flows() -> ModuleType:
    """The module of Prefect flows, once the server is there to hear of them."""
    module = importlib.import_module("flows.orchestration.flows")
    if _temporary is not None:
        _temporary.wait()
    return module


def tell_batch_done(workspace: Workspace, run_id: str) -> None:
    """Tell the Prefect server that we report to that enough items of a run are finished."""
    importlib.import_module("flows.orchestration.events").batch_done(workspace.root, run_id)


def deployments(workspace: Workspace, *, shared: bool, tell: Callable[[str], None]) -> None:
    """Register the deployments at the server that we report to, and run them until interrupted.

    `shared`: other workspaces may report to the same server.
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    importlib.import_module("flows.orchestration.serve").run(workspace, shared=shared, tell=tell)
