"""COCO's compressed strings and the runs they mean: read strictly, as they come from anywhere."""

import numpy as np
import numpy.typing as npt

MAX_PIXELS = 2**31 - 1
_BITS = 5
_MORE = 0x20
_SIGN = 0x10
_FIRST_CHARACTER = 48
# Seven groups of five bits hold any run or difference of runs below MAX_PIXELS.
_MAX_GROUPS = 7


def read_runs(counts: str, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The run lengths of a code, background first; raises ValueError unless they fill the size.

    The format is of pycocotools' `rleToString`: each number is cut into groups of 5 bits, lowest
    first, a sixth bit says that another group follows, 48 is added to make it a character; from the
    fourth run on, the number is the difference to the run before the last.
    """
    check_size(size)
    numbers = _numbers(counts)
    # Runs of one colour are counted on from each other; the first background run stands alone.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    if (numbers < 0).any():
        raise ValueError("counts: must be runs of 0 or more pixels, but got a negative one")
    check_sum(numbers, size)
    return numbers


def write_runs(runs: npt.NDArray[np.int64]) -> str:
    """(R,) runs of pixels, background first -> the code that `read_runs` reads, as COCO writes it.

    COCO's own code, `rleToString`, keeps six letters for a run, and writes past its memory where
    runs of 2^24 pixels need them all.
    """
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    lengths = np.ones(numbers.size, dtype=np.int64)
    for groups in range(1, _MAX_GROUPS):
        highest = 1 << (_BITS * groups - 1)
        lengths += (numbers >= highest) | (numbers < -highest)
    ends = np.cumsum(lengths)
    place = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    letters = np.repeat(numbers, lengths) >> (_BITS * place)
    letters &= _MORE - 1
    letters |= _MORE
    letters[ends - 1] ^= _MORE
    return str((letters + _FIRST_CHARACTER).astype(np.uint8).tobytes(), "ascii")


def _numbers(counts: str) -> npt.NDArray[np.int64]:
    if not isinstance(counts, str) or not counts.isascii():
        raise ValueError("counts: must be COCO's compressed RLE, a string of ASCII characters")
    groups = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64)
    groups -= _FIRST_CHARACTER
    if ((groups < 0) | (groups >= 2 * _MORE)).any():
        raise ValueError("counts: must have only the characters from '0' to 'o'")
    ends = np.flatnonzero(groups & _MORE == 0)
    if groups.size == 0 or ends.size == 0 or ends[-1] != groups.size - 1:
        raise ValueError("counts: must be a whole code, but got one that is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise ValueError("counts: must be runs shorter than 2^31, but got a longer one")
    shifts = _BITS * (np.arange(groups.size) - np.repeat(starts, lengths))
    values = np.add.reduceat((groups & (_MORE - 1)) << shifts, starts)
    negative = groups[ends] & _SIGN != 0
    return np.asarray(values - (negative.astype(np.int64) << (_BITS * lengths)))


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError unless an image (height, width) has between 1 and MAX_PIXELS pixels."""
    height, width = size
    if not (height >= 1 and width >= 1 and height * width <= MAX_PIXELS):
        raise ValueError(
            f"size: must be positive and below 2^31 pixels, but got {height} x {width}"
        )


def check_sum(runs: npt.NDArray[np.int64], hw: tuple[int, int]) -> None:
    """Raise ValueError unless runs fill an image of size `hw`."""
    expected = hw[0] * hw[1]
    # Each run first: a sum of many could wrap around to the right number.
    if (runs > expected).any() or int(runs.sum()) != expected:
        raise ValueError(
            f"counts: must add up to {expected} pixels ({hw[0]} x {hw[1]}), "
            f"but got {int(runs.sum())}"
        )
