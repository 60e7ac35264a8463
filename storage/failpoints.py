"""Places where a test can kill the process, as a power cut would.

`MASKLOOP_FAILPOINT=NAME` kills at the first time that NAME is reached, `NAME:n` at the n-th.
"""

import os
from threading import Lock

VARIABLE = "MASKLOOP_FAILPOINT"
EXIT_CODE = 137
NAMES = frozenset(
    {
        "lease.after_commit",
        "submit.before_commit",
        "submit.after_commit",
        "shard.after_write",
        "commit.after_update",
        "commit.after_add",
        "commit.after_commit",
        "promote.after_weights",
        "promote.after_cas",
        "export.after_add",
        "revoke.after_commit",
        "revoke.after_queue",
        "backup.after_file",
        "move.after_copy",
        "move.after_fence",
        "move.after_release",
        "move.after_settings",
    }
)

_hits: dict[str, int] = {}
_lock = Lock()


def failpoint(name: str) -> None:
    """End the process here, without any clean-up, if the environment asks for it."""
    assert name in NAMES, f"unknown failpoint {name!r}"
    wanted, _, nth = os.environ.get(VARIABLE, "").partition(":")
    if wanted != name:
        return
    with _lock:
        _hits[name] = _hits.get(name, 0) + 1
        if _hits[name] == int(nth or 1):
            os._exit(EXIT_CODE)
