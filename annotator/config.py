"""What the annotator's server allows; where it listens is its caller's business."""

import math
from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class AnnotatorConfig:
    """Limits and trust of the HTTP API.

    `allowed_hosts` are the host names, without port, under which the server may be addressed: any
    other Host header is refused, or a foreign page could reach a loopback server by re-pointing its
    own name (DNS rebinding). `allowed_origins` may write besides pages from the same address.
    `always_sign_in` is for a server that other machines reach: nobody is let in without, also while
    nobody was added yet. Masks may have the names in `categories`, any name where there are none.
    A run counts as done once `batch_done_share` of its items are finished. `clicks_at_once` and
    `images_at_once` keep slow work from holding up heartbeats and submissions.
    """

    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    allowed_origins: tuple[str, ...] = ()
    always_sign_in: bool = False
    categories: tuple[str, ...] = ()
    max_body_bytes: int = 32 * _MIB
    retry_after_s: int = 2
    heartbeat_s: float = 20.0
    batch_done_share: float = 1.0
    clicks_at_once: int = 4
    images_at_once: int = 2

    def __post_init__(self) -> None:
        if not self.allowed_hosts:
            raise ValueError("allowed_hosts: must name at least one host, got ()")
        for name in ("max_body_bytes", "retry_after_s", "clicks_at_once", "images_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.heartbeat_s) and self.heartbeat_s > 0):
            raise ValueError(f"heartbeat_s: must be positive, got {self.heartbeat_s}")
        if not 0 < self.batch_done_share <= 1:
            raise ValueError(f"batch_done_share: must be in (0, 1], got {self.batch_done_share}")
