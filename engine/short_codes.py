"""Short run-length codes, read letter by letter: for a small mask quicker than arrays are.

A server that checks the masks of hundreds of annotators reads thousands of such codes a second.
"""

from engine.rle import Rle
from engine.run_codes import MAX_PIXELS

_MAX_LETTERS = 512
_MAX_BITS = 35


def short_area(mask: Rle) -> int | None:
    """Pixels of a mask whose code is short and right; None for any other, which `rle` can judge.

    The format is the one of `engine.run_codes`.
    """
    height, width = mask.size
    if not (height >= 1 and width >= 1 and height * width <= MAX_PIXELS):
        return None
    if len(mask.counts) > _MAX_LETTERS or not mask.counts.isascii():
        return None
    total = area = num_runs = value = num_bits = last = before_last = 0
    for letter in mask.counts.encode("ascii"):
        group = letter - 48
        if not 0 <= group < 64 or num_bits == _MAX_BITS:
            return None
        value |= (group & 31) << num_bits
        num_bits += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << num_bits
        if num_runs > 2:
            value += before_last
        if value < 0:
            return None
        total += value
        area += value if num_runs & 1 else 0
        before_last, last = last, value
        num_runs += 1
        value = num_bits = 0
    return area if num_bits == 0 and total == height * width else None
