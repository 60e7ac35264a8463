"""The real images that benchmarks measure on, in `../shared/data` or where MASKLOOP_DATA says."""

import hashlib
import os
import sys
from pathlib import Path


def data_folder() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("MASKLOOP_DATA") or default)


def is_gold(path: Path) -> bool:
    """Whether no shipped weight may have seen this file."""
    return int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16) % 5 == 0


def require(*names: str, quick: bool) -> None:
    """End the program unless these sets are there, which are no part of the project.

    As done when `quick`, so that `make bench` goes on, else as a usage error.
    """
    missing = [name for name in names if not (data_folder() / name).is_dir()]
    if missing:
        print(
            f"no {' and no '.join(missing)} in {data_folder()}: "
            "set MASKLOOP_DATA to the folder of the real images",
            file=sys.stderr,
        )
        sys.exit(0 if quick else 2)
