"""The invariants of the lake, for `fsck`; the queue's are in `storage.queue.check`.

I1: one set per image, model and config; I1b: committed shards have the sets they planned. I2: what
a row refers to is there. I3: submissions up to the watermark are merged once. I6: the ledger counts
what is there. I7: files are there, unchanged. I8: no old file without a name. I9: the pointer, the
status and the weights agree. I11: masks fit their images. I12: no path of this machine. gold: what
measures never trained. retired: what was taken away does not stand, and once it was revoked it
trains nothing. withheld: of a proposal that nobody saw came no mask.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import duckdb

from storage.catalog import seals
from storage.catalog.connection import DATA_FOLDER
from storage.catalog.files import lake_files, orphans
from storage.catalog.fsck_queries import LOOKS, Look, Rule
from storage.catalog.lake import Lake
from storage.errors import StorageError

ORPHANS_MAY_BE_S = 3 * 24 * 3600.0
_BATCH = 5_000
_LOOKS = 5


class Inspector(Protocol):
    """Looks inside masks; storage does not know how."""

    def box_and_area(self, size: tuple[int, int], counts: str) -> tuple[list[float], int]:
        """XYWH box and area of a mask; raises ValueError for a broken one."""


class Submitted(Protocol):
    """A submission as the review queue has it."""

    @property
    def seq(self) -> int:
        """Its place in the order of commits."""

    @property
    def submission_id(self) -> str:
        """Its name."""

    @property
    def body_sha(self) -> str:
        """The SHA-256 of its body."""


@dataclass(frozen=True)
class Breach:
    """An invariant that does not hold, where, and what was found."""

    invariant: str
    where: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """For `--json` and tables."""
        return asdict(self)


@dataclass(frozen=True)
class _Subject:
    lake: Lake
    current: Callable[[], tuple[str, int] | None]
    submissions: Callable[[], Iterable[Submitted]]
    inspect: Inspector
    quick: bool


def check(
    lake: Lake,
    *,
    current: Callable[[], tuple[str, int] | None],
    submissions: Callable[[], Iterable[Submitted]],
    inspect: Inspector,
    quick: bool = False,
) -> list[Breach]:
    """Every breach; an empty list is a sound lake. A `quick` look takes no SHA-256 of files.

    `current` gives what the pointer says serves, with its generation, and `submissions` all that
    the review queue has accepted. A rule that cannot be asked because a file is gone is a breach.
    Stages may be at work meanwhile.
    """
    subject = _Subject(lake, current, submissions, inspect, quick)
    found = [breach for rule in _FIRST for breach in _lasting(rule, subject)]
    found += [breach for look in LOOKS for breach in _seen(look, subject)]
    return found + [breach for rule in _LAST for breach in _lasting(rule, subject)]


def _seen(look: Look, subject: _Subject) -> list[Breach]:
    """What its rules find that do not hold at a look, each asked by itself."""
    try:
        numbers = {row["number"] for row in subject.lake.rows(look.sql)}
        broken = [look.rules[number] for number in sorted(numbers)]
    except (StorageError, duckdb.Error):
        # One of them cannot be asked, and will say so.
        broken = list(look.rules)
    return [breach for rule in broken for breach in _lasting(_asking(rule), subject)]


def _lasting(rule: Callable[[_Subject], Iterator[Breach]], subject: _Subject) -> list[Breach]:
    """What is found twice: commits may have come between what a rule read first and last."""
    found = _asked(rule, subject)
    for _ in range(_LOOKS):
        again = _asked(rule, subject) if found else []
        lasting = [breach for breach in found if breach in again]
        if lasting or not again:
            return lasting
        found = again
    return found


def _asked(rule: Callable[[_Subject], Iterator[Breach]], subject: _Subject) -> list[Breach]:
    try:
        return list(rule(subject))
    except (StorageError, duckdb.Error) as error:
        return [Breach("I7", "a rule that cannot be checked", str(error))]


def _lake_files(subject: _Subject) -> Iterator[Breach]:
    objects = subject.lake.objects
    there = {each.uri for each in objects.below(DATA_FOLDER)}
    for note in seals.damaged_notes(objects):
        yield Breach("I7", f"file {note}", "is not what was written; run: maskloop fsck --repair")
    sums = seals.sealed(objects)
    for uri in sorted(lake_files(subject.lake)):
        if uri not in there:
            yield Breach("I7", f"file {uri}", "a snapshot needs it and it is gone")
        elif not subject.quick and uri in sums and objects.sha256(uri) != sums[uri]:
            message = "a snapshot needs it and it is damaged: its SHA-256 differs"
            yield Breach("I7", f"file {uri}", message)


def _shard_files(subject: _Subject) -> Iterator[Breach]:
    for row in subject.lake.rows("SELECT * FROM shards WHERE state = 'committed'"):
        for kind in ("mask", "set", "candidate"):
            if row[f"{kind}_uri"] is None:
                continue
            stored = (row[f"{kind}_uri"], row[f"{kind}_sha256"], row[f"{kind}_bytes"])
            if problem := _file_problem(subject, *stored):
                images = ", ".join(row["image_ids"])
                yield Breach("I7", f"shard {row['shard_key']}", f"{problem}; images: {images}")


def _embeddings(subject: _Subject) -> Iterator[Breach]:
    rows = subject.lake.rows(
        "SELECT image_id, uri, sha256, bytes FROM embeddings "
        "QUALIFY row_number() OVER (PARTITION BY uri ORDER BY created_at DESC) = 1"
    )
    for row in rows:
        if problem := _file_problem(subject, row["uri"], row["sha256"], row["bytes"]):
            yield Breach("I7", f"embedding of image {row['image_id']}", problem)


def _weights(subject: _Subject) -> Iterator[Breach]:
    for kind, table in (("model", "model_versions"), ("detector", "detectors")):
        rows = subject.lake.rows(f"SELECT version, weights_uri, weights_sha256 FROM {table}")
        for row in rows:
            if problem := _file_problem(subject, row["weights_uri"], row["weights_sha256"], None):
                yield Breach("I9", f"{kind} {row['version']}", problem)


def _file_problem(
    subject: _Subject, uri: str, sha256: str | None, num_bytes: int | None
) -> str | None:
    objects = subject.lake.objects
    found = objects.find(uri)
    if found is None:
        return f"{uri} is gone"
    if num_bytes is not None and found.bytes != num_bytes:
        return f"{uri} has {found.bytes} bytes, not {num_bytes}"
    if sha256 is not None and not subject.quick and objects.sha256(uri) != sha256:
        return f"{uri} is not the file that was stored: its SHA-256 differs"
    return None


def _serving(subject: _Subject) -> Iterator[Breach]:
    rows = subject.lake.rows("SELECT version, role, status FROM model_versions")
    promoted = sorted(row["version"] for row in rows if row["status"] == "promoted")
    current = subject.current()
    wanted = [] if current is None else [current[0]]
    if promoted != wanted:
        message = f"{wanted or 'nothing'} serves, but the lake has promoted {promoted or 'nothing'}"
        yield Breach("I9", "model_versions.status", f"{message}; the next stage corrects it")
    for row in rows:
        if row["version"] in wanted and row["role"] == "control":
            yield Breach("I9", f"model {row['version']}", "a control serves")
    if wanted and wanted[0] not in {row["version"] for row in rows}:
        yield Breach("I9", f"model {wanted[0]}", "serves, and the lake does not know it")


def _merged(subject: _Subject) -> Iterator[Breach]:
    mark = subject.lake.rows("SELECT coalesce(max(seq), 0) AS seq FROM watermarks")[0]["seq"]
    reviews: dict[str, list[dict[str, Any]]] = {}
    for row in subject.lake.rows("SELECT submission_id, seq, body_sha256 FROM reviews"):
        reviews.setdefault(row["submission_id"], []).append(row)
    for submission in subject.submissions():
        merged = reviews.pop(submission.submission_id, [])
        where = f"submission {submission.submission_id}"
        if len(merged) != (submission.seq <= mark):
            message = f"place {submission.seq}, merged {len(merged)} times, merged up to {mark}"
            yield Breach("I3", where, message)
        for row in merged:
            if row["seq"] != submission.seq or row["body_sha256"] not in (
                None,
                submission.body_sha,
            ):
                yield Breach("I3", where, "what was merged is not what was submitted")
    for submission_id in reviews:
        yield Breach("I3", f"submission {submission_id}", "was merged and nobody submitted it")


def _masks(subject: _Subject) -> Iterator[Breach]:
    table = subject.lake.arrow(
        "SELECT mask_id, segmentation, bbox, area, height, width "
        "FROM masks LEFT JOIN images USING (image_id) ORDER BY mask_id"
    )
    for batch in table.to_batches(_BATCH):
        for row in batch.to_pylist():
            if problem := mask_problem(row, subject.inspect):
                yield Breach("I11", f"mask {row['mask_id']}", problem)


def mask_problem(row: dict[str, Any], inspect: Inspector) -> str | None:
    """What is wrong with a mask, given with the size of its image; None for a sound one."""
    height, width = row["segmentation"]["size"]
    if row["height"] is not None and (height, width) != (row["height"], row["width"]):
        return f"is {height} x {width}, its image {row['height']} x {row['width']}"
    try:
        box, area = inspect.box_and_area((height, width), row["segmentation"]["counts"])
    except ValueError as error:
        return f"broken run-length code: {error}"
    if area != row["area"]:
        return f"has {area} pixels, its row says {row['area']}"
    if box != row["bbox"]:
        return f"has box {box}, its row says {row['bbox']}"
    return None


def _orphans(subject: _Subject) -> Iterator[Breach]:
    with subject.lake.lock():
        found = orphans(subject.lake)
    oldest = max((orphan.age_s for orphan in found), default=0.0)
    if oldest > ORPHANS_MAY_BE_S:
        message = f"{len(found)} files that nothing names, the oldest {oldest / 86400:.0f} days old"
        yield Breach("I8", "lake/, models/, embeddings/", f"{message}; run: maskloop store gc")


def _asking(rule: Rule) -> Callable[[_Subject], Iterator[Breach]]:
    def ask(subject: _Subject) -> Iterator[Breach]:
        for row in subject.lake.rows(rule.sql):
            yield Breach(rule.invariant, str(row["where"]), rule.message.format(**row))

    return ask


_OF_FILES = (_lake_files, _shard_files, _embeddings, _weights)
_FIRST = (*_OF_FILES, _serving, _merged)
_LAST = (_masks, _orphans)
