"""Before the first flow: which Prefect server hears of it, decided once and said in one line.

Prefect reads its environment when it is imported, so nothing else imports `flows.orchestration`
before `prepare` has run.
"""

import importlib
import json
import os
from types import ModuleType
from urllib.request import urlopen

from flows.workspace import Workspace

RUNNING_FILE = "serve.json"


def prepare(workspace: Workspace) -> str:
    """Point Prefect at a server, or at none; returns the line to tell the user."""
    api_url = (
        workspace.settings.prefect.api_url
        or os.environ.get("PREFECT_API_URL", "")
        or _served_here(workspace)
    )
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if api_url:
        os.environ["PREFECT_API_URL"] = api_url
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        return f"Prefect: {api_url.removesuffix('/api')}"
    # A temporary server would otherwise print a screen of logs; its runs stay in the workspace,
    # where `maskloop serve` shows them.
    os.environ.setdefault("PREFECT_HOME", str(workspace.folder(".prefect")))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    return "Prefect: no server configured, running here (maskloop serve starts one with a UI)"


def _served_here(workspace: Workspace) -> str:
    path = workspace.root / ".locks" / RUNNING_FILE
    try:
        api_url = str(json.loads(path.read_text(encoding="utf-8"))["prefect_api"])
        with urlopen(f"{api_url}/health", timeout=2) as answer:
            return api_url if answer.status == 200 else ""
    except (OSError, ValueError, KeyError):
        return ""


def flows() -> ModuleType:
    """The module of Prefect flows."""
    return importlib.import_module("flows.orchestration.flows")


def deployments(workspace: Workspace) -> None:
    """Register and run the deployments until interrupted."""
    importlib.import_module("flows.orchestration.serve").run(workspace)
