"""Many masks at once: areas, boxes and overlaps of a whole column of compressed run-length codes.

A column of N codes is the letters of all of them in one array, where each begins, and their sizes.
Everything is read as strictly as by `engine.run_codes`, which is the slow reading of the same and
says what is wrong with a code; here no step is taken mask by mask.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.run_codes import MAX_PIXELS, read_runs

Ints = npt.NDArray[np.int64]

_FIRST_CHARACTER = 48
_MORE = 32
_SIGN = 16
_BITS = 5
_MAX_GROUPS = 7
# So many fit into 16 bits.
_DENSE = 3
# Letters.
_AT_ONCE = 2**17
# Floats hold whole numbers exactly up to here.
_EXACT = 2**53
_LARGEST = 2**62


class Codes(NamedTuple):
    """letters (B,) uint8, offsets (N + 1,) into them, sizes (N, 2) as (height, width)."""

    letters: npt.NDArray[np.uint8]
    offsets: Ints
    sizes: Ints


@dataclass(frozen=True)
class _Runs:
    """Runs of pixels of N masks, one after the other, background first.

    lengths (R,) of them; mask i has those from firsts[i] to firsts[i + 1]; heights (N,) of images.
    """

    lengths: Ints
    firsts: Ints
    heights: Ints

    @property
    def counts(self) -> Ints:
        """(N,) how many runs each mask has."""
        return np.diff(self.firsts)


@dataclass(frozen=True, kw_only=True)
class Comparable:
    """N masks, read once for any number of comparisons.

    The pixels of a mask below a place are a function of that place, which a straight line joins
    from border to border: `below` at `places`, for all masks in one, mask i from stretch[i] on.
    Floats, which hold these whole numbers exactly.
    """

    sizes: Ints
    areas: Ints
    boxes: Ints
    runs: _Runs
    borders: Ints
    stretch: Ints
    places: npt.NDArray[np.float64]
    below: npt.NDArray[np.float64]


def areas(codes: Codes) -> Ints:
    """(N,) pixels of each mask; raises ValueError for a malformed code."""
    return np.concatenate([np.zeros(0, np.int64), *(_areas_of(c) for c in _pieces(codes))])


def boxes(codes: Codes) -> Ints:
    """(N, 4) xyxy, half-open; zeros for an empty mask. Raises ValueError for a malformed code."""
    return np.concatenate([np.zeros((0, 4), np.int64), *(_boxes(_read(c)) for c in _pieces(codes))])


def segments(codes: Codes) -> tuple[Ints, Ints, Ints]:
    """(R,) of each run of a mask's own pixels: whose, where it starts, and ends, half-open.

    Counted down the columns of its own image. Raises ValueError for a malformed code.
    """
    return _segments(_read(codes))


def comparable(codes: Codes) -> Comparable:
    """The same masks, to be compared with each other; raises ValueError for a malformed code."""
    pixels = codes.sizes[:, 0] * codes.sizes[:, 1]
    runs = _read(codes)
    pitch = int(pixels.max(initial=0)) + 1
    if len(pixels) * pitch > _EXACT:
        raise ValueError(f"codes: must be fewer at once, but got {len(pixels)}")
    borders, stretch = _borders(runs), np.arange(len(pixels)) * pitch
    places = borders + np.repeat(stretch, runs.counts)
    number = np.arange(runs.lengths.size) - np.repeat(runs.firsts[:-1], runs.counts)
    below = np.cumsum(np.where(number % 2 == 1, runs.lengths, 0))
    distinct = np.diff(places, prepend=-1) > 0
    return Comparable(
        sizes=codes.sizes,
        areas=_areas(runs),
        boxes=_boxes(runs),
        runs=runs,
        borders=borders,
        stretch=stretch,
        places=places[distinct].astype(np.float64),
        below=below[distinct].astype(np.float64),
    )


def ious(a: Comparable, left: Ints, b: Comparable, right: Ints) -> npt.NDArray[np.float64]:
    """(P,) intersection over union of a[left[p]] and b[right[p]]; 0 where both are empty.

    Raises ValueError for a pair of different sizes.
    """
    _check_pairs(a.sizes[left], b.sizes[right])
    one, other = a.boxes[left], b.boxes[right]
    # An empty mask has an empty box, which meets none.
    meet = (np.maximum(one[:, :2], other[:, :2]) < np.minimum(one[:, 2:], other[:, 2:])).all(axis=1)
    fewer = a.runs.counts[left] <= b.runs.counts[right]
    shared = np.zeros(len(left), dtype=np.int64)
    forth, back = meet & fewer, meet & ~fewer
    shared[forth] = _shared(a, left[forth], b, right[forth])
    shared[back] = _shared(b, right[back], a, left[back])
    either = a.areas[left] + b.areas[right] - shared
    return np.asarray(shared / np.maximum(1, either))


def _pieces(codes: Codes) -> Iterator[Codes]:
    """The same codes, so few at once that what is computed of them stays near the processor."""
    start = 0
    while start < len(codes.sizes):
        stop = np.searchsorted(codes.offsets, codes.offsets[start] + _AT_ONCE, side="right") - 1
        stop = max(start + 1, int(stop))
        borders = codes.offsets[start : stop + 1]
        letters = codes.letters[borders[0] : borders[-1]]
        yield Codes(letters, borders - borders[0], codes.sizes[start:stop])
        start = stop


def _areas_of(codes: Codes) -> Ints:
    found = _areas_quickly(codes)
    return _areas(_read(codes)) if found is None else found


def _areas_quickly(codes: Codes) -> Ints | None:
    """(N,) pixels of each mask, or None where only the runs themselves can tell."""
    pixels = _pixels(codes.sizes)
    numbers = None if pixels is None else _numbers(codes)
    if pixels is None or numbers is None:
        return None
    values, firsts = numbers
    starts = firsts[:-1]
    alone = values[starts]
    found, totals = np.zeros_like(pixels), alone.copy()
    for parity in (0, 1):
        is_background = starts % 2 == parity
        covered = _covered(values[parity::2], (firsts + 1 - parity) // 2, is_background)
        if covered is None:
            return None
        totals += covered
        found += np.where(is_background, 0, covered)
    return found if (alone >= 0).all() and np.array_equal(totals, pixels) else None


def _covered(numbers: Ints, firsts: Ints, is_background: npt.NDArray[np.bool_]) -> Ints | None:
    """(N,) sums of runs of one colour, without the first background run; None for a negative one.

    Sums run on through all masks: a run is what its sum is above the one that its mask began with,
    and so no run need be known by itself.
    """
    sums = np.zeros(numbers.size + 1, dtype=np.int64)
    np.cumsum(numbers, out=sums[1:])
    most = max(int(sums.max()), -int(sums.min()))
    if most * sums.size > _LARGEST:
        return None
    starts, num_runs = firsts[:-1], np.diff(firsts)
    base = sums[starts + is_background]
    found = np.zeros_like(starts)
    some = num_runs > 0
    if some.any():
        if (np.minimum.reduceat(sums[1:], starts[some]) < base[some]).any():
            return None
        found[some] = np.add.reduceat(sums[1:], starts[some])
    return np.asarray(found - num_runs * base)


def _check_pairs(left: Ints, right: Ints) -> None:
    differ = (left != right).any(axis=1)
    if differ.any():
        a, b = left[differ][0], right[differ][0]
        raise ValueError(
            f"size: must be the same for both masks, but got {a.tolist()} and {b.tolist()}; "
            "compare masks of one image"
        )


def _read(codes: Codes) -> _Runs:
    """The runs of all masks; raises ValueError, with what is wrong, for a malformed code."""
    runs = _read_quickly(codes)
    if runs is None:
        _say_what_is_wrong(codes)
        raise AssertionError("the slow reading refuses what the quick one does")
    return runs


def _say_what_is_wrong(codes: Codes) -> None:
    letters = codes.letters.tobytes()
    borders = codes.offsets.tolist()
    for start, end, (height, width) in zip(
        borders[:-1], borders[1:], codes.sizes.tolist(), strict=True
    ):
        read_runs(letters[start:end].decode("ascii", errors="replace"), (height, width))


def _read_quickly(codes: Codes) -> _Runs | None:
    """The runs, or None if any code is malformed."""
    pixels = _pixels(codes.sizes)
    numbers = None if pixels is None else _numbers(codes)
    if pixels is None or numbers is None:
        return None
    values, firsts = numbers
    lengths = _counted_on(values, firsts)
    # All are at least 0 before they are added up, and none can pass what it is added up to.
    if (lengths < 0).any() or (lengths > MAX_PIXELS).any():
        return None
    if not np.array_equal(_sums(lengths, firsts), pixels):
        return None
    return _Runs(lengths, firsts, codes.sizes[:, 0])


def _pixels(sizes: Ints) -> Ints | None:
    if ((sizes < 1) | (sizes > MAX_PIXELS)).any():
        return None
    pixels = sizes[:, 0] * sizes[:, 1]
    return None if (pixels > MAX_PIXELS).any() else pixels


def _numbers(codes: Codes) -> tuple[Ints, Ints] | None:
    """The numbers of all codes, and which is the first of each code and, last, how many."""
    letters, offsets, _ = codes
    groups = letters - np.uint8(_FIRST_CHARACTER)
    if (groups >= 2 * _MORE).any() or (np.diff(offsets) < 1).any():
        return None
    is_last = groups < _MORE
    if not is_last[offsets[1:] - 1].all():
        return None
    ends: Ints = np.flatnonzero(is_last)
    short, before = _of_few_letters(groups)
    # `take` is twice as quick as an index.
    values: Ints = short.take(ends).astype(np.int64)
    if before.any() and not _add_longer(values, groups, ends, before):
        return None
    return values, np.searchsorted(ends, offsets)


def _of_few_letters(
    groups: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Of each letter: the number that it and the two before it are the end of, if it is one's last;
    and whether the number has more letters than these.

    For every letter, because that is quicker than to pick out those that it is asked of.
    """
    low = (groups & (_MORE - 1)).astype(np.int16)
    # The highest of the last five bits is the sign.
    values = (low ^ _SIGN) - np.int16(_SIGN)
    goes_on = (groups >> _BITS).astype(np.int16)
    before = np.ones_like(low)
    for back in range(1, _DENSE + 1):
        before[:back] = 0
        before[back:] *= goes_on[:-back]
        if back < _DENSE:
            values *= 1 + (_MORE - 1) * before
            values[back:] += low[:-back] * before[back:]
    return values, before != 0


def _add_longer(
    values: Ints, groups: npt.NDArray[np.uint8], ends: Ints, before: npt.NDArray[np.bool_]
) -> bool:
    """Complete the numbers of more than _DENSE letters; False: there is one of too many."""
    number = np.flatnonzero(before.take(ends))
    place = ends[number]
    for back in range(_DENSE, _MAX_GROUPS):
        values[number] = (values[number] << _BITS) + (groups[place - back] & (_MORE - 1))
        # Before the very first letter stands, by its index, the very last, which ends a number.
        goes_on = groups[place - back - 1] >= _MORE
        if not goes_on.any():
            return True
        place, number = place[goes_on], number[goes_on]
    return False


def _counted_on(values: Ints, firsts: Ints) -> Ints:
    """Numbers -> runs: from the fourth on, a number is the difference to the run before the last.

    Sums run on through all masks, over every other number; what a mask began with is taken off.
    """
    lengths = np.empty_like(values)
    starts = firsts[:-1]
    for parity in (0, 1):
        some = values[parity::2]
        sums = np.zeros(some.size + 1, dtype=np.int64)
        np.cumsum(some, out=sums[1:])
        # The last number of this parity whose sum does not count: of a mask's second and later
        # runs, those before it; of its third and later ones, also its first.
        last = starts - (starts % 2 != parity)
        base = sums[(last - parity) // 2 + 1]
        lengths[parity::2] = sums[1:] - np.repeat(base, _how_many(firsts, parity))
    lengths[starts] = values[starts]
    return lengths


def _how_many(firsts: Ints, parity: int) -> Ints:
    """(N,) how many numbers of each mask are of this parity, counted through all masks."""
    return np.diff((firsts + 1 - parity) // 2)


def _sums(lengths: Ints, firsts: Ints) -> Ints:
    return np.add.reduceat(lengths, firsts[:-1]) if firsts.size > 1 else np.zeros(0, np.int64)


def _areas(runs: _Runs) -> Ints:
    found = np.zeros(len(runs.heights), dtype=np.int64)
    is_odd = runs.firsts[:-1] % 2 == 1
    for parity in (0, 1):
        # A mask that begins at an even place has its own pixels at the odd ones.
        some = np.concatenate([[0], np.cumsum(runs.lengths[parity::2])])
        totals = np.diff(some[(runs.firsts + 1 - parity) // 2])
        mine = is_odd == (parity == 0)
        found[mine] = totals[mine]
    return found


def _borders(runs: _Runs) -> Ints:
    """(R,) where each run ends, in pixels down the columns of its own image."""
    ends = np.cumsum(runs.lengths)
    before = np.concatenate([[0], ends])[runs.firsts[:-1]]
    return np.asarray(ends - np.repeat(before, runs.counts))


def _boxes(runs: _Runs) -> Ints:
    found = np.zeros((len(runs.heights), 4), dtype=np.int64)
    owner, starts, ends = _segments(runs)
    if owner.size == 0:
        return found
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    masks, height = owner[begins], runs.heights[owner]
    columns, lasts = starts // height, (ends - 1) // height
    # A run that goes on in the next column touches the bottom and the top.
    whole = columns != lasts
    tops = np.where(whole, 0, starts - columns * height)
    bottoms = np.where(whole, height, ends - lasts * height)
    stops = np.append(begins[1:], owner.size) - 1
    found[masks, 0], found[masks, 2] = columns[begins], lasts[stops] + 1
    found[masks, 1] = np.minimum.reduceat(tops, begins)
    found[masks, 3] = np.maximum.reduceat(bottoms, begins)
    return found


def _segments(runs: _Runs) -> tuple[Ints, Ints, Ints]:
    """Of each run of a mask's own pixels: whose it is, where it starts, and ends, half-open."""
    num_own = runs.counts // 2
    owner = np.repeat(np.arange(len(num_own)), num_own)
    within = np.arange(owner.size) - np.repeat(np.cumsum(num_own) - num_own, num_own)
    place = runs.firsts[owner] + 2 * within + 1
    ends, lengths = _borders(runs)[place], runs.lengths[place]
    shown = lengths > 0
    return owner[shown], (ends - lengths)[shown], ends[shown]


def _shared(few: Comparable, left: Ints, many: Comparable, right: Ints) -> Ints:
    """(P,) pixels that both masks of a pair have; neither is empty.

    The mask with more runs is asked at each border of the other how many of its pixels lie below.
    """
    if left.size == 0:
        return np.zeros(0, dtype=np.int64)
    num_asked = few.runs.counts[left] // 2 * 2
    begins = np.cumsum(num_asked) - num_asked
    at = np.arange(num_asked.sum()) + np.repeat(few.runs.firsts[left] - begins, num_asked)
    places = few.borders[at] + np.repeat(many.stretch[right], num_asked)
    below = np.interp(places, many.places, many.below)
    return np.add.reduceat(below[1::2] - below[0::2], begins // 2).astype(np.int64)
