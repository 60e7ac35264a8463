"""What a workspace and its parts are called at a Prefect server."""

import platform
import re
from hashlib import sha256
from pathlib import Path

import torch

# On every flow run of ours: a server may have other people's as well.
TAG = "maskloop"


def deployment_name(root: Path, *, shared: bool) -> str:
    """A workspace's folder; at a shared server with six digits of a hash of where it lies."""
    folder = re.sub(r"[/%&<>]", "-", root.name) or "workspace"
    if not shared:
        return folder
    place = f"{platform.node()}:{root}"
    return f"{folder}-{sha256(place.encode()).hexdigest()[:6]}"


def resource(root: Path) -> dict[str, str]:
    """The workspace as the resource of an event: the same whoever emits it, at whichever server."""
    name = deployment_name(root, shared=True)
    return {"prefect.resource.id": f"maskloop.workspace.{name}", "prefect.resource.name": root.name}


def training_limit(device: torch.device) -> str:
    """The concurrency limit of trainings on a device of this machine."""
    host = re.sub(r"[/%&<>]", "-", platform.node())
    if device.type == "cpu":
        return f"maskloop-cpu-{host}"
    return f"maskloop-gpu-{host}-{device.index or 0}"
