"""Keep freed memory in the process, so that decoding need not wait for the kernel's zeroed pages.

glibc gives tensors over 32 MiB back to the kernel at once and gets them again, page by page, a
millisecond later. Keeping them makes stock decoding 1.3 times as fast (benchmarks/decoder.py).
"""

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP = 1 << 30


@cache
def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed; False where the C library is another."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP) and mallopt(_M_TRIM_THRESHOLD, _KEEP))
