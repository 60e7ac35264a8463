"""A training's checkpoint in a file."""

from pathlib import Path


class FileCheckpointer:
    """One file that the trainer can go on from; written beside and renamed, so never half."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, step: int, blob: bytes) -> None:
        """Keep `blob` as the state after `step`."""
        part = self._path.with_suffix(f".{step}.tmp")
        part.write_bytes(blob)
        part.replace(self._path)

    def load(self) -> bytes | None:
        """The last state kept, or None."""
        return self._path.read_bytes() if self._path.exists() else None

    def clear(self) -> None:
        """Forget: the training is done."""
        self._path.unlink(missing_ok=True)
