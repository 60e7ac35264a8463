"""What browsers may keep, and what they need not be sent again."""

import hashlib
from typing import Annotated

from fastapi import Header, Response

IfNoneMatch = Annotated[str | None, Header()]

FOR_EVER = "private, max-age=31536000, immutable"
"""For what its address names by content."""

ASK_AGAIN = "private, no-cache"
"""For what another workspace may have under the same address, such as the work of its own `v1`."""


def tag_of(content: bytes) -> str:
    """The ETag of bytes, from their SHA-256."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def kept_already(tag: str, if_none_match: str | None, keep: str) -> Response | None:
    """304 when the caller has what `tag` names, else None."""
    if if_none_match is None or tag not in (each.strip() for each in if_none_match.split(",")):
        return None
    return Response(status_code=304, headers=_headers(tag, keep))


def to_keep(content: bytes, media_type: str, tag: str, keep: str) -> Response:
    """200 with `content`."""
    return Response(content, media_type=media_type, headers=_headers(tag, keep))


def _headers(tag: str, keep: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": keep}
