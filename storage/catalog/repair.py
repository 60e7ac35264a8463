"""What `fsck` finds and can be set right: shards are labelled anew, what follows is computed anew.

Nothing is invented: a person's mask, a model's weights and what only old snapshots hold come back
from a backup or not at all. What was damaged is moved below `quarantine/`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import methodcaller
from typing import Any

import duckdb

from storage.catalog import expiry, seals
from storage.catalog.files import LakeFile, files_of_snapshots, is_sound, known_sums, seal_all
from storage.catalog.fsck import Inspector, mask_problem
from storage.catalog.lake import Lake, Transaction
from storage.catalog.repair_queries import DANGLING, ONLY_AUTOMATIC, WRONG_SHARDS
from storage.catalog.stand_in import stand_in
from storage.errors import StorageError

QUARANTINE = "quarantine"
_BATCH = 5_000


@dataclass(frozen=True)
class Repair:
    """What was done about something that was wrong, or what the user has to do."""

    where: str
    action: str

    def to_dict(self) -> dict[str, str]:
        """For `--json` and tables."""
        return asdict(self)


@dataclass(frozen=True)
class _Subject:
    lake: Lake
    current: tuple[str, int] | None
    inspect: Inspector
    sums: Mapping[str, str]

    def commit(self, body: Callable[[Transaction], object]) -> None:
        self.lake.commit(body, message="repair")


def repair(lake: Lake, *, current: tuple[str, int] | None, inspect: Inspector) -> list[Repair]:
    """Set right what can be; returns what was done. `check` again afterwards tells what is left.

    `current` is what the pointer says serves, with its generation.
    """
    subject = _Subject(lake, current, inspect, known_sums(lake))
    done: list[Repair] = []
    for step in _STEPS:
        try:
            done += step(subject)
        except (StorageError, duckdb.Error) as error:
            done.append(Repair("store", f"not repaired: {error}; restore it from a backup"))
    with lake.lock():
        seal_all(lake)
    return done


def _notes(subject: _Subject) -> Iterator[Repair]:
    objects = subject.lake.objects
    for uri in seals.damaged_notes(objects):
        _quarantine(subject, uri)
        yield Repair(f"file {uri}", "quarantined; what it noted is sealed anew")


def _lost_files(subject: _Subject) -> Iterator[Repair]:
    lake = subject.lake
    automatic = {row["path"] for row in lake.rows(ONLY_AUTOMATIC)}
    lost = [file for file in files_of_snapshots(lake) if _is_lost(subject, file)]
    used = [file for file in lost if file.until is None]
    again = [file for file in used if _can_be_made_again(file, automatic)]
    _let_go(subject, again)
    for file in again:
        yield Repair(f"file {file.uri}", f"quarantined, {file.num_rows} rows of it removed")
    for file in used:
        if file not in again:
            yield Repair(f"file {file.uri}", "not repaired: restore it from a backup")


def _is_lost(subject: _Subject, file: LakeFile) -> bool:
    return not is_sound(subject.lake, file.uri, subject.sums)


def _can_be_made_again(file: LakeFile, automatic: set[str]) -> bool:
    if file.is_delete:
        return False
    return file.table in ("image_sets", "candidates", "embeddings") or (
        file.table == "masks" and file.uri.partition("/")[2] in automatic
    )


def _let_go(subject: _Subject, files: Sequence[LakeFile]) -> None:
    if not files:
        return
    lake = subject.lake
    # Should this be cut short, the stand-ins are found by these.
    seals.keep(lake.objects, {f.uri: subject.sums[f.uri] for f in files if f.uri in subject.sums})
    for file in files:
        _quarantine(subject, file.uri)
        lake.objects.put(file.uri, stand_in(file))
    # Footers of files that were read before are remembered with the connection.
    lake.close()
    subject.commit(lambda tx: _delete_rows(tx, lake, files))
    for file in files:
        lake.objects.remove(file.uri)
    lake.close()


def _delete_rows(tx: Transaction, lake: Lake, files: Sequence[LakeFile]) -> None:
    for file in files:
        address = lake.objects.address(file.uri)
        tx.execute(f"DELETE FROM {file.table} WHERE filename = ?", (address,))


def _quarantine(subject: _Subject, uri: str) -> None:
    objects = subject.lake.objects
    if objects.find(uri) is not None:
        objects.copy(uri, f"{QUARANTINE}/{uri}")
        objects.remove(uri)


def _shards(subject: _Subject) -> Iterator[Repair]:
    wrong = {row["shard_key"]: row["state"] for row in subject.lake.rows(WRONG_SHARDS)}
    for row in subject.lake.rows("SELECT * FROM shards WHERE state = 'committed'"):
        uris = [row[f"{kind}_uri"] for kind in ("mask", "set", "candidate")]
        if not all(is_sound(subject.lake, uri, subject.sums) for uri in uris if uri):
            wrong[row["shard_key"]] = "committed"
    yield from _redo(subject, wrong)


def _redo(subject: _Subject, shards: Mapping[str, str]) -> Iterator[Repair]:
    if not shards:
        return
    subject.commit(lambda tx: _take_back(tx, list(shards)))
    for key, state in shards.items():
        again = "it is pending, the next generate labels its images anew"
        what = again if state == "committed" else "it never was committed"
        yield Repair(f"shard {key}", f"its rows were removed: {what}")


def _take_back(tx: Transaction, keys: Sequence[str]) -> None:
    for table in ("masks", "image_sets", "candidates"):
        tx.execute(f"DELETE FROM {table} WHERE list_contains(?, shard_key)", (keys,))
    kinds = ("mask", "set", "candidate")
    files = ", ".join(f"{k}_{w} = NULL" for k in kinds for w in ("uri", "sha256", "bytes"))
    tx.execute(
        "UPDATE shards SET state = 'pending', attempt = NULL, committed_at = NULL, "
        f"num_masks = NULL, {files} WHERE list_contains(?, shard_key) AND state = 'committed'",
        (keys,),
    )


def _masks(subject: _Subject) -> Iterator[Repair]:
    table = subject.lake.arrow(
        "SELECT mask_id, stage, shard_key, segmentation, bbox, area, height, width "
        "FROM masks LEFT JOIN images USING (image_id) ORDER BY mask_id"
    )
    wrong = [
        (row, problem)
        for batch in table.to_batches(_BATCH)
        for row in batch.to_pylist()
        if (problem := mask_problem(row, subject.inspect))
    ]
    right = {row["mask_id"]: found for row, _ in wrong if (found := _measured(row, subject))}
    if right:
        subject.commit(lambda tx: _correct(tx, right))
    yield from (Repair(f"mask {name}", "its box and area were computed anew") for name in right)
    broken = [(row, problem) for row, problem in wrong if row["mask_id"] not in right]
    yield from _redo(
        subject, {row["shard_key"]: "committed" for row, _ in broken if row["shard_key"]}
    )
    for row, problem in broken:
        if not row["shard_key"]:
            message = f"not repaired: {problem}; restore it from a backup, or label it again"
            yield Repair(f"mask {row['mask_id']}", message)


def _measured(row: dict[str, Any], subject: _Subject) -> tuple[list[float], int] | None:
    """The box and area of a mask whose code is sound; None for another."""
    height, width = row["segmentation"]["size"]
    if row["height"] is not None and (height, width) != (row["height"], row["width"]):
        return None
    try:
        return subject.inspect.box_and_area((height, width), row["segmentation"]["counts"])
    except ValueError:
        return None


def _correct(tx: Transaction, right: Mapping[str, tuple[list[float], int]]) -> None:
    # In place: both follow from the code, so the mask is the same one as before.
    tx.execute(
        "UPDATE masks SET bbox = r.bbox, area = r.area FROM (SELECT unnest(?) AS mask_id, "
        "unnest(?::DOUBLE[][]) AS bbox, unnest(?::BIGINT[]) AS area) r "
        "WHERE masks.mask_id = r.mask_id",
        (list(right), [box for box, _ in right.values()], [area for _, area in right.values()]),
    )


def _embeddings(subject: _Subject) -> Iterator[Repair]:
    rows = subject.lake.rows("SELECT DISTINCT uri FROM embeddings ORDER BY uri")
    bad = [row["uri"] for row in rows if not is_sound(subject.lake, row["uri"], subject.sums)]
    if bad:
        subject.commit(
            lambda tx: tx.execute("DELETE FROM embeddings WHERE list_contains(?, uri)", (bad,))
        )
    for uri in bad:
        _quarantine(subject, uri)
        yield Repair(f"embedding {uri}", "dropped; it is computed anew when it is asked for")


def _statuses(subject: _Subject) -> Iterator[Repair]:
    serves = None if subject.current is None else subject.current[0]
    rows = subject.lake.rows("SELECT version, status, role FROM model_versions ORDER BY version")
    wanted = {
        row["version"]: "promoted" if row["version"] == serves else "retired"
        for row in rows
        if (row["version"] == serves) != (row["status"] == "promoted")
    }
    for version, status in wanted.items():
        subject.commit(
            methodcaller(
                "execute",
                "UPDATE model_versions SET status = ? WHERE version = ?",
                (status, version),
            )
        )
        yield Repair(f"model {version}", f"is {status}, as the pointer says")


def _references(subject: _Subject) -> Iterator[Repair]:
    for what, find, mend in DANGLING:
        if (count := subject.lake.rows(find)[0]["n"]) > 0:
            subject.commit(methodcaller("execute", mend))
            yield Repair(what, f"{count} rows referred to masks that are gone")


def _history(subject: _Subject) -> Iterator[Repair]:
    """Old snapshots that are no longer whole go, unless something refers to them."""
    lake = subject.lake
    lost = [
        file
        for file in files_of_snapshots(lake)
        if file.until is not None and not is_sound(lake, file.uri, subject.sums)
    ]
    kept = expiry.reasons_to_keep(lake.rows)
    there = {row["n"] for row in lake.rows("SELECT snapshot_id n FROM ducklake_snapshots('lake')")}
    needed = {n: f.uri for f in lost for n in there if f.since <= n and n < (f.until or 0)}
    if free := sorted(needed.keys() - kept.keys()):
        expiry.expire_these(lake, free)
        yield Repair("snapshots " + ", ".join(map(str, free)), "expired: they were not whole")
    for number in sorted(needed.keys() & kept.keys()):
        message = f"not repaired: it lacks {needed[number]}; restore that from a backup"
        yield Repair(f"snapshot {number}, of {kept[number]}", message)


_STEPS: tuple[Callable[[_Subject], Iterator[Repair]], ...] = (
    _notes,
    _lost_files,
    _shards,
    _masks,
    _embeddings,
    _statuses,
    _references,
    _history,
)
