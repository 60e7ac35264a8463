"""What a frozen image encoder makes of each crop, kept, so that it is made once.

In memory for one training, and in files for those after it: labels that came in between bring new
crops, the others are what they were.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.model.sam import Features

View = tuple[int, int]
"""An image and the number of its crop."""

_MB = 2**20


class FeatureFiles:
    """Features that the encoder `encoder_id` made of frames (1, 3, S, S), a file each in `folder`.

    Of up to `capacity_mb` megabytes; those that were used longest ago give way, but none of those
    that this object gave or took. A file is written beside and renamed, so never half; one that
    cannot be read or written is as if it were not there. Threads may share it.
    """

    def __init__(self, folder: Path, encoder_id: str, capacity_mb: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._encoder_id = encoder_id
        self._left = capacity_mb * _MB
        known = [(path.stat(), path.name) for path in folder.glob("*.safetensors")]
        # Those before this training, the oldest first.
        self._earlier = OrderedDict(
            (name, stat.st_size) for stat, name in sorted(known, key=lambda pair: pair[0].st_mtime)
        )
        self._left -= sum(self._earlier.values())
        self._lock = Lock()

    def find(self, frame: Tensor) -> Features | None:
        """The features of a frame on the CPU, also there; None when they are not kept."""
        path = self._path(frame)
        try:
            tensors = load(path.read_bytes())
            path.touch()
        except OSError:
            return None
        except SafetensorError:
            path.unlink(missing_ok=True)
            with self._lock:
                self._left += self._earlier.pop(path.name, 0)
            return None
        with self._lock:
            self._earlier.pop(path.name, None)
        skips = (tensors["skip_2x"], tensors["skip_4x"]) if "skip_2x" in tensors else None
        return Features(tensors["embedding"], skips)

    def keep(self, frame: Tensor, features: Features) -> None:
        """Write the features of a frame, if there is room."""
        tensors = {"embedding": features.embedding}
        if features.skips is not None:
            tensors |= {"skip_2x": features.skips[0], "skip_4x": features.skips[1]}
        data = save({name: value.cpu().contiguous() for name, value in tensors.items()})
        path = self._path(frame)
        part = path.with_suffix(".tmp")
        with self._lock:
            # Two threads may have made it at once.
            if path.exists() or not self._make_room(len(data)):
                return
            try:
                part.write_bytes(data)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)
                return
            self._left -= len(data)

    def _path(self, frame: Tensor) -> Path:
        content = hashlib.sha256(frame.contiguous().numpy().tobytes()).hexdigest()[:32]
        return self._folder / f"{self._encoder_id}-{content}.safetensors"

    def _make_room(self, size: int) -> bool:
        while self._left < size and self._earlier:
            name, freed = self._earlier.popitem(last=False)
            (self._folder / name).unlink(missing_ok=True)
            self._left += freed
        return self._left >= size


class KeptFeatures:
    """Features by view, up to `capacity_mb` megabytes in memory; threads may share it.

    Once full, what is in it stays: views come back in turn, so that giving up the oldest would give
    up each just before it is wanted again. `files` has those of earlier trainings and of views that
    memory has no room for.
    """

    def __init__(self, capacity_mb: int, files: FeatureFiles | None = None) -> None:
        self._left = capacity_mb * _MB
        self._files = files
        self._kept: dict[View, Features] = {}
        self._lock = Lock()

    def of(self, view: View | None, frame: Tensor, make: Callable[[], Features]) -> Features:
        """The features of `view`, made if they are not here; None is a crop that never returns.

        frame (1, 3, S, S) on the CPU is what the view shows. What is found in a file is on the CPU.
        """
        if view is None:
            return make()
        with self._lock:
            kept = self._kept.get(view)
        if kept is not None:
            return kept
        features = None if self._files is None else self._files.find(frame)
        if features is None:
            features = make()
            if self._files is not None:
                self._files.keep(frame, features)
        self._keep(view, features)
        return features

    def _keep(self, view: View, features: Features) -> None:
        size = _bytes(features.embedding) + sum(map(_bytes, features.skips or ()))
        with self._lock:
            if view not in self._kept and size <= self._left:
                self._kept[view] = features
                self._left -= size


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
