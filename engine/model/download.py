"""Large files of weights by URL: checked by SHA-256, resumed after a cut, kept in a cache."""

import fcntl
import http
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from engine.model.integrity import (
    UnreachableError,
    WeightsError,
    check_sha256,
    normal_sha256,
    sha256_of,
)

_CHUNK_BYTES = 1 << 20
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Answers that another try may change.
_PASSING = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to try: `attempts` in a row that bring nothing, `pause_s` between two."""

    attempts: int = 5
    pause_s: float = 2.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts: must be at least 1, but got {self.attempts}")


def default_cache() -> Path:
    """Where downloads are kept when nobody says where."""
    return Path.home() / ".cache" / "maskloop"


def fetch(
    url: str,
    *,
    sha256: str,
    cache: Path | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> Path:
    """The file at `url`, out of `cache` (default `~/.cache/maskloop`) when it is there already.

    `progress(bytes, total)` hears of each piece. What a cut leaves behind (`NAME.part`) is where
    the next call goes on. Raises WeightsError: no https, no such file, another SHA-256;
    UnreachableError when the connection fails.
    """
    wanted = normal_sha256(sha256, url)
    target = (cache or default_cache()) / f"{wanted[:16]}-{_file_name(url)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.with_name(f"{target.name}.lock")):
        if not (target.exists() and sha256_of(target) == wanted):
            part = target.with_name(f"{target.name}.part")
            _download(url, part, patience or Patience(), progress)
            _accept(part, target, wanted, url)
    return target


def _file_name(url: str) -> str:
    """The last part of the path; raises WeightsError for what is no https URL of a file."""
    parts = urlsplit(url)
    name = Path(unquote(parts.path)).name
    # The SHA-256 guards the bytes; https guards who learns of the request.
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not local:
        raise WeightsError(f"{url}: must begin with https://; or download it and give its path")
    if not name:
        raise WeightsError(f"{url}: must end in the name of a file")
    return name


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time downloads a file; the others wait, and find it there."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _accept(part: Path, target: Path, wanted: str, url: str) -> None:
    found = sha256_of(part)
    if found != wanted:
        part.unlink()
    check_sha256(found, wanted, url, "nothing was kept; check both, then try again")
    part.replace(target)


def _download(url: str, part: Path, patience: Patience, progress: Progress | None) -> None:
    """Fill `part`, from where it ends; a try that brings something starts the count afresh."""
    failures = 0
    while True:
        before = _size(part)
        problem = _try(url, part, patience.timeout_s, progress)
        if problem is None:
            return
        failures = 1 if _size(part) > before else failures + 1
        if failures >= patience.attempts:
            raise UnreachableError(
                f"{url}: {problem}, {_size(part)} bytes in; call again to go on from there, "
                "or download the file and give its path"
            )
        time.sleep(patience.pause_s)


def _try(url: str, part: Path, timeout_s: float, progress: Progress | None) -> str | None:
    """What went wrong, or None when all of it is there; raises WeightsError for a refusal."""
    start = _size(part)
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(request, timeout=timeout_s) as response:
            return _receive(response, part, start, progress)
    except HTTPError as error:
        return _refused(error, url, part)
    except (OSError, HTTPException) as error:
        return str(error) or type(error).__name__


def _receive(
    response: HTTPResponse, part: Path, start: int, progress: Progress | None
) -> str | None:
    resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and response.headers.get(
        "Content-Range", ""
    ).startswith(f"bytes {start}-")
    done = start if resumed else 0
    length = response.headers.get("Content-Length")
    total = None if length is None else done + int(length)
    with part.open("ab" if resumed else "wb") as stream:
        while chunk := response.read(_CHUNK_BYTES):
            done += stream.write(chunk)
            if progress is not None:
                progress(done, total)
        stream.flush()
        os.fsync(stream.fileno())
    return None if total is None or done >= total else "the connection was cut"


def _refused(error: HTTPError, url: str, part: Path) -> str | None:
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        if error.headers.get("Content-Range") == f"bytes */{_size(part)}":
            return None  # nothing was missing
        part.unlink(missing_ok=True)
        return "the file there is another by now"
    if error.code in _PASSING or error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"HTTP {error.code} {error.reason}"
    raise WeightsError(f"{url}: HTTP {error.code} {error.reason}; check the address") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
