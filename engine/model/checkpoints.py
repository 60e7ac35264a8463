"""Checkpoints that others publish: where they are, and their tensors, out of pickles that may lie.

The SHA-256 of Meta's files and of MobileSAM's are those that many independent projects pin.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.model.download import Progress, fetch
from engine.model.integrity import WeightsError, check_sha256, normal_sha256, sha256_of

_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_MOBILE_SAM = "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A checkpoint on the web."""

    url: str
    sha256: str


PUBLISHED = {
    "vit_b": Published(
        url=f"{_META}sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Published(
        url=f"{_META}sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Published(
        url=f"{_META}sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "vit_t": Published(
        url=f"{_MOBILE_SAM}f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
}


def local_checkpoint(
    source: Path | str,
    *,
    sha256: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The file of `source`, a path or a URL, which is downloaded once.

    A URL needs its SHA-256, unless it is in PUBLISHED; a path's is checked when it is given.
    Raises WeightsError.
    """
    if isinstance(source, str) and "://" in source:
        wanted = sha256 or _known_sha256(source)
        return fetch(source, sha256=wanted, cache=cache, progress=progress)
    path = Path(source)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; download the checkpoint there, or give its URL")
    if sha256 is not None:
        wanted = normal_sha256(sha256, str(path))
        check_sha256(sha256_of(path), wanted, str(path), "download it again")
    return path


def _known_sha256(url: str) -> str:
    for published in PUBLISHED.values():
        if published.url == url:
            return published.sha256
    raise WeightsError(f"{url}: give the SHA-256 of the file too, or nobody knows what came")


def read_tensors(path: Path, *, under: str | None = None) -> dict[str, Tensor]:
    """A state dict out of a `.pth`, or what it holds by the name `under` if it does.

    No code in it is run. Raises WeightsError for anything else.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: not a checkpoint of tensors ({reason})") from error
    if under is not None and isinstance(found, dict):
        found = found.get(under, found)
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: expected a state dict, but found {type(found).__name__}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: must hold nothing but tensors by name, but {name!r} is a "
                f"{type(value).__name__}; save its state dict alone"
            )
    return found
