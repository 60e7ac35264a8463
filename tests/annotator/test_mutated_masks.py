"""Masks that went through bad hands: each door lets in exactly what COCO's definition says is one.

The doors are the codes' own functions, one by one and by columns, SQL, an import and the annotator.
"""

import json
import math
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import duckdb
import httpx
import numpy as np
import pytest

from annotator.submission import Submission, SubmissionError
from engine import coco_fields, mask_functions, rle, rle_columns
from engine.coco_fields import UnusableError
from engine.rle import Rle
from engine.rle_columns import Codes
from engine.short_codes import short_area
from storage.catalog import mask_functions as sql_functions

HW = (96, 128)
MAX_SIDE = 30_000
TOO_MANY_PIXELS = 2**31
# A run that is wrong by this much is right to whoever counts in so many bits.
WRAPS = (2**16, 2**31, 2**32, 2**35, 2**63, 2**64)
SOME = 300
AT_ONCE = 250
PIXELS_TO_PAINT = 2_000


def runs_of(size: Sequence[int], counts: str) -> list[int] | None:
    """The runs of a code, None for one that is none: `rleFrString` in whole numbers of any size.

    What is left open there is closed here: a number has seven letters at most, as many as any run
    can need, no run is negative, and together they fill the image.
    """
    height, width = size
    if height < 1 or width < 1 or height * width >= TOO_MANY_PIXELS:
        return None
    runs: list[int] = []
    place = 0
    while place < len(counts):
        number, letters, more = 0, 0, True
        while more:
            if place == len(counts):
                return None
            group = ord(counts[place]) - 48
            if not 0 <= group <= 63:
                return None
            number |= (group & 31) << (5 * letters)
            more = bool(group & 32)
            place, letters = place + 1, letters + 1
        if group & 16:
            number -= 1 << (5 * letters)
        if len(runs) > 2:
            number += runs[-2]
        if letters > 7 or number < 0:
            return None
        runs.append(number)
    return runs if sum(runs) == height * width else None


def plain_runs(size: Sequence[int], counts: Sequence[Any]) -> list[int] | None:
    """The same of COCO's uncompressed runs."""
    whole = all(type(run) is int and run >= 0 for run in counts)
    return list(counts) if whole and sum(counts) == size[0] * size[1] else None


def meant(size: Sequence[int], runs: Sequence[int]) -> tuple[int, list[int]]:
    """Area, and box xyxy, of runs down the columns, of which the second is of the mask."""
    height, start, area = size[0], 0, 0
    columns: list[int] = []
    rows: list[int] = []
    for number, run in enumerate(runs):
        end = start + run
        if number % 2 and run:
            area += run
            columns += [start // height, (end - 1) // height]
            # What goes on in the next column was at the bottom, and is at the top.
            one_column = columns[-2] == columns[-1]
            rows += [start % height, (end - 1) % height] if one_column else [0, height - 1]
        start = end
    if not area:
        return 0, [0, 0, 0, 0]
    return area, [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def painted(size: Sequence[int], runs: Sequence[int]) -> list[list[bool]]:
    """Rows of pixels."""
    height, width = size
    flat = [number % 2 == 1 for number, run in enumerate(runs) for _ in range(run)]
    return [[flat[x * height + y] for x in range(width)] for y in range(height)]


def written(runs: Sequence[int]) -> str:
    """The code of runs, whatever they are: `rleToString`."""
    text = ""
    for index, run in enumerate(runs):
        value, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + (group | (32 if more else 0)))
    return text


class BadHands:
    """Makes masks and spoils them; the same from the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def codes(self) -> Iterator[tuple[tuple[int, int], str]]:
        """Sizes and codes without end."""
        while True:
            size = self.size()
            runs = self.runs(size)
            if self.random.random() < 0.4:
                runs = self.wrong_runs(runs)
            counts = written(runs)
            for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
                counts = self.wrong_text(counts)
            yield self.wrong_size(size) if self.random.random() < 0.15 else size, counts

    def size(self) -> tuple[int, int]:
        kind = self.random.random()
        if kind < 0.8:
            return self.random.randint(1, 12), self.random.randint(1, 12)
        if kind < 0.9:
            return HW
        return self.random.choice(
            ((1, 4000), (4000, 1), (30_000, 30_000), (2**24, 127), (1, 2**31 - 1))
        )

    def runs(self, size: tuple[int, int]) -> list[int]:
        """Of any mask of the size, also such as COCO's own code would not write: empty runs."""
        pixels = size[0] * size[1]
        cuts = sorted(self.random.randint(0, pixels) for _ in range(self.random.randint(0, 9)))
        return [end - start for start, end in zip([0, *cuts], [*cuts, pixels], strict=True)]

    def wrong_runs(self, runs: list[int]) -> list[int]:
        runs = list(runs)
        one, other = (self.random.randrange(len(runs)) for _ in range(2))
        amount = self.random.choice((1, 2, 17, *WRAPS))
        match self.random.randrange(5):
            case 0:
                runs[one] += amount
            case 1:
                runs[one] -= amount
            case 2:
                # The sum stays, and perhaps all are still 0 or more.
                runs[one] += self.random.choice((1, 3, amount))
                runs[other] -= self.random.choice((1, 3, amount))
            case 3:
                runs.insert(one, 0)
            case 4:
                del runs[one]
        return runs

    def wrong_text(self, text: str) -> str:
        letters = list(text)
        place = self.random.randrange(len(letters) + 1)
        match self.random.randrange(8):
            case 0 if place < len(letters):
                letters[place] = chr(ord(letters[place]) ^ 1 << self.random.randrange(8))
            case 1:
                letters.insert(place, chr(self.random.randint(48, 111)))
            case 2:
                letters.insert(place, self.random.choice("\x00 /p~\x7fé€\U0001f600\ud800"))
            case 3:
                del letters[place : place + self.random.randint(1, 3)]
            case 4:
                del letters[place:]
            case 5:
                self.random.shuffle(letters)
            case 6:
                letters[place:place] = letters[: self.random.randint(0, 9)]
            case 7:
                # Empty groups behind, or in front of, a number.
                letters[place:place] = self.random.choice(("P", "PPPPPP0", "P" * 40, "o", "oooooo"))
        return "".join(letters)

    def wrong_size(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = size
        near = ((width, height), (height + 1, width), (height, width - 1), (1, height * width))
        far = ((-height, -width), (0, width), (2**16, 2**16), (2**31, 1))
        return self.random.choice((*near, *far))

    def wrong_counts(self, runs: list[int]) -> Any:
        """Plain runs as JSON may have them."""
        counts: list[Any] = list(runs)
        if self.random.random() < 0.3:
            return counts
        place = self.random.randrange(len(counts))
        anything = (
            -1, float(counts[place]), counts[place] + 0.5, math.nan, math.inf, True, None,
            str(counts[place]), [counts[place]], {}, 10**400, *WRAPS,
        )  # fmt: skip
        counts[place] = self.random.choice(anything)
        return counts


def column(codes: Sequence[tuple[tuple[int, int], str]]) -> Codes:
    letters = [counts.encode("utf-8", errors="surrogatepass") for _, counts in codes]
    offsets = np.cumsum([0, *map(len, letters)], dtype=np.int64)
    sizes = np.array([size for size, _ in codes], dtype=np.int64).reshape(-1, 2)
    return Codes(np.frombuffer(b"".join(letters), dtype=np.uint8), offsets, sizes)


def check_alone(size: tuple[int, int], counts: str, runs: list[int] | None) -> None:
    """The codes' own functions."""
    mask = Rle(size, counts)
    if runs is None:
        assert short_area(mask) is None
        with pytest.raises(ValueError, match=r"^(size|counts): "):
            rle.validate(mask)
        return
    area, box = meant(size, runs)
    rle.validate(mask, size)
    assert rle.area(mask) == area
    assert short_area(mask) == area
    # Exact for sides up to 2^24, which no import lets an image pass.
    assert rle.box(mask).tolist() == np.array(box, dtype=np.float32).tolist()
    if math.prod(size) <= PIXELS_TO_PAINT:
        pixels = painted(size, runs)
        assert rle.decode(mask).tolist() == pixels
        assert rle.encode_one(np.array(pixels)) == rle.from_uncompressed(runs, size)


def check_refused_in_a_column(size: tuple[int, int], counts: str) -> None:
    around = ((2, 2), "112")
    with pytest.raises(ValueError, match=r"^(size|counts): "):
        rle_columns.areas(column([around, (size, counts), around]))


def check_together(codes: Sequence[tuple[tuple[int, int], str]], ask: Any) -> None:
    """Columns, and SQL, of codes that are right."""
    areas, boxes = zip(*(meant(size, runs_of(size, counts) or []) for size, counts in codes),
                       strict=True)  # fmt: skip
    assert rle_columns.areas(column(codes)).tolist() == list(areas)
    assert rle_columns.boxes(column(codes)).tolist() == list(boxes)
    rows = ask("mask_area(mask), mask_bbox(mask)", codes)
    assert [row[0] for row in rows] == list(areas)
    assert [[x, y, x + w, y + h] for _, (x, y, w, h) in rows] == list(boxes)
    small = [code for code in codes if math.prod(code[0]) <= PIXELS_TO_PAINT]
    for found, (size, counts) in zip(mask_functions._columns(column(small)), small, strict=True):
        assert found.T.tolist() == painted(size, runs_of(size, counts) or [])


def check_submitted(size: tuple[int, int], counts: str, runs: list[int] | None) -> None:
    """The annotator: a mask of a person, of an image of the size that it says."""
    body = {"added": [{"segmentation": {"size": list(size), "counts": counts}}]}
    fits = runs is not None and max(size) <= MAX_SIDE and meant(size, runs)[0] > 0
    if fits:
        submission = Submission.parse(body)
        submission.check(set(), size)
        assert submission.added[0].segmentation == Rle(size, counts)
        return
    with pytest.raises(SubmissionError, match=r"^added\[0\]\.segmentation: "):
        Submission.parse(body).check(set(), size)


def check_imported(hw: tuple[int, int], segmentation: Any, runs: list[int] | None) -> None:
    """An import: of an image of size `hw`."""
    entry = {"segmentation": segmentation}
    if runs is None or not meant(hw, runs)[0]:
        with pytest.raises(UnusableError, match=r"\A.*; (correct|draw) .*\Z"):
            coco_fields.mask_in(entry, hw)
        return
    mask = coco_fields.mask_in(entry, hw)
    assert mask.size == hw
    found = runs_of(hw, mask.counts)
    assert found is not None
    assert meant(hw, found) == meant(hw, runs)
    if math.prod(hw) <= PIXELS_TO_PAINT:
        assert painted(hw, found) == painted(hw, runs)


@pytest.fixture(scope="module")
def ask() -> Iterator[Any]:
    """Answers SQL about a column of codes, `mask`."""
    with duckdb.connect() as connection:
        sql_functions.register(connection, mask_functions)

        def rows(what: str, codes: Sequence[tuple[tuple[int, int], str]]) -> list[Any]:
            sizes, counts = [list(size) for size, _ in codes], [text for _, text in codes]
            return connection.execute(
                f"SELECT {what} FROM (SELECT {{'size': s, 'counts': c}}::"
                f"{sql_functions.SEGMENTATION} AS mask FROM "
                "(SELECT unnest($1::INTEGER[][]) AS s, unnest($2::VARCHAR[]) AS c))",
                [sizes, counts],
            ).fetchall()

        yield rows


def check_all(seed: int, number: int, ask: Any) -> None:
    hands = BadHands(seed)
    right: list[tuple[tuple[int, int], str]] = []
    num_right = num_wrong = 0
    for size, counts in islice(hands.codes(), number):
        runs = runs_of(size, counts)
        check_alone(size, counts, runs)
        check_submitted(size, counts, runs)
        check_imported(size, {"size": list(size), "counts": counts}, runs)
        if runs is None:
            num_wrong += 1
            check_refused_in_a_column(size, counts)
            if num_wrong % 200 == 1 and max(size) < 2**31 and counts.isprintable():
                with pytest.raises(duckdb.Error, match=r"mask_area: (size|counts): "):
                    ask("mask_area(mask)", [(size, counts)])
        else:
            num_right += 1
            right.append((size, counts))
        if len(right) == AT_ONCE:
            check_together(right, ask)
            right.clear()
    check_together(right, ask)
    assert min(num_right, num_wrong) > number / 5


def check_plain(seed: int, number: int) -> None:
    hands = BadHands(seed)
    for _ in range(number):
        hw = hands.size()
        counts = hands.wrong_counts(hands.runs(hw))
        size: Any = hw if hands.random.random() < 0.8 else hands.wrong_size(hw)
        right = plain_runs(hw, counts) if tuple(size) == hw else None
        check_imported(hw, {"size": list(size), "counts": counts}, right)


def test_a_door_lets_in_what_is_a_mask_and_nothing_else(ask: Any) -> None:
    check_all(0, SOME, ask)


def test_an_import_takes_plain_runs_that_fill_the_image_and_no_others() -> None:
    check_plain(0, SOME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_door_lets_in_no_wrong_mask_of_twenty_thousand(seed: int, ask: Any) -> None:
    check_all(seed, 20_000, ask)


@pytest.mark.slow
def test_an_import_takes_no_wrong_runs_of_twenty_thousand() -> None:
    check_plain(1, 20_000)


def check_sent(api: httpx.Client, desk: Any, seed: int, number: int) -> None:
    """A browser's request with one such mask each is refused; all right ones come in together."""
    lease = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]
    item, held = lease["item"], {"annotator": "ada", "lease_token": lease["lease_token"]}
    offered = [proposal["proposal_id"] for proposal in item["proposals"]]
    decisions = [{"proposal_id": name, "action": "rejected"} for name in offered]

    def send(codes: Sequence[tuple[tuple[int, int], str]]) -> httpx.Response:
        added = [{"segmentation": {"size": list(size), "counts": text}} for size, text in codes]
        return api.post(
            f"/api/items/{item['item_id']}/submit",
            headers={"Idempotency-Key": f"mutated-{seed}", "Content-Type": "application/json"},
            content=json.dumps(held | {"submission": {"decisions": decisions, "added": added}}),
        )

    right = []
    hands = BadHands(seed)
    for _ in range(number):
        counts = written(hands.wrong_runs(hands.runs(HW)))
        if hands.random.random() < 0.5:
            counts = hands.wrong_text(counts)
        size = hands.wrong_size(HW) if hands.random.random() < 0.1 else HW
        runs = runs_of(size, counts)
        if size == HW and runs is not None and meant(HW, runs)[0]:
            right.append((size, counts))
            continue
        answer = send([(size, counts)])
        assert answer.status_code == 422, answer.text
        assert answer.json()["message"].startswith("submission.added[0].segmentation")
    assert len(right) > number / 20
    assert send(right).status_code == 201
    (kept,) = desk.queue.submissions_after(0, limit=None)
    assert [
        (tuple(added["segmentation"]["size"]), added["segmentation"]["counts"])
        for added in kept.body["added"]
    ] == right


def test_a_browser_cannot_send_a_wrong_mask(api: httpx.Client, desk: Any) -> None:
    check_sent(api, desk, 0, SOME // 2)


@pytest.mark.slow
def test_a_browser_cannot_send_a_wrong_mask_of_three_thousand(api: httpx.Client, desk: Any) -> None:
    check_sent(api, desk, 1, 3_000)
