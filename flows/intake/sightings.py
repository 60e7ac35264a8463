"""What was seen of images that lie elsewhere, until all of them are in: an import that is begun
again reads the others only."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Lock

from flows.images.sources import Place
from flows.intake.files import FoundImage
from flows.workspace import Workspace

_log = logging.getLogger(__name__)


class Sightings:
    """Images by their addresses, a line of JSON each in a file; threads may share it.

    What cannot be written down, on a full disk or one that may not be written, is read again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()

    def before(self) -> dict[Place, FoundImage]:
        """What an earlier process saw."""
        found: dict[Place, FoundImage] = {}
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return found
        for line in lines:
            try:
                image = FoundImage(**json.loads(line))
            except (ValueError, TypeError):
                continue  # a process died while it wrote this
            found[image.place] = image
        return found

    def note(self, image: FoundImage) -> None:
        """Write an image down; files of this machine are soon read again."""
        if not isinstance(image.place, str):
            return
        # Behind half a line it begins a new one.
        line = f"\n{json.dumps(asdict(image))}"
        try:
            with self._lock:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(line)
        except OSError as error:
            _log.debug("image %s: cannot be written down: %s", image.place, error)


@contextmanager
def sightings(workspace: Workspace, *named: Place) -> Iterator[Sightings]:
    """Those of an intake of what was `named`; they go when it is done, and stay when it fails."""
    name = hashlib.sha256("\n".join(map(str, named)).encode(errors="replace")).hexdigest()[:16]
    path = workspace.root / "cache" / "sightings" / f"{name}.jsonl"
    yield Sightings(path)
    path.unlink(missing_ok=True)
