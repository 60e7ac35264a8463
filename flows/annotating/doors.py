"""Where the annotator's server listens, by which names people reach it, and who must come first.

A server that other machines can reach lets nobody in without a token, and is not started before
somebody has one.
"""

import ipaddress

from flows.errors import UsageError
from flows.settings import AnnotatorSettings
from flows.workspace import Workspace
from storage.queue.people import People

LOOPBACK = "127.0.0.1"
_LOCAL_NAMES = ("localhost", LOOPBACK, "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name may mean any address, also another one tomorrow.
        return False


def allowed_hosts(settings: AnnotatorSettings) -> tuple[str, ...]:
    """The names under which the server may be addressed, without port."""
    own = () if _is_any(settings.host) else (_in_address(settings.host),)
    named = (name.lower() for name in (*own, *settings.allowed_hosts))
    return tuple(dict.fromkeys((*_LOCAL_NAMES, *named)))


def local_url(host: str, port: int) -> str:
    """The address at which this machine reaches a server that listens at `host`."""
    return f"http://{LOOPBACK if _is_any(host) else _in_address(host)}:{port}"


def public_url(settings: AnnotatorSettings) -> str:
    """The address that people open: by the first of the allowed hosts, if any is named."""
    if settings.allowed_hosts:
        return f"http://{settings.allowed_hosts[0]}:{settings.port}"
    return local_url(settings.host, settings.port)


def check_guarded(workspace: Workspace) -> None:
    """Raise UsageError where a server would listen beyond loopback and nobody could sign in."""
    settings = workspace.settings.annotator
    if is_loopback(settings.host):
        return
    if not People(workspace.queue.database).any_admitted():
        raise UsageError(
            f"annotator.host: other machines reach {settings.host}, and nobody could sign in; run: "
            f'maskloop annotators add NAME, or set annotator.host = "{LOOPBACK}" in maskloop.toml'
        )
    if _is_any(settings.host) and not settings.allowed_hosts:
        raise UsageError(
            f"annotator.allowed_hosts: must name this machine as people write it in the address, "
            f'such as ["labels.example"], where annotator.host is {settings.host}'
        )


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
