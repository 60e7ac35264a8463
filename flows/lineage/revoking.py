"""`maskloop revoke`: what descends from an annotator, model or run; and to take their masks back.

Masks are retired in one commit of the lake, with the models that learnt from them; what people have
to look at again is put into the queue after it. The run says that it is not done until then, so
whoever asks again after a crash finishes it first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from annotator.item import ItemPayload
from flows.errors import UsageError
from flows.lineage.descent import (
    PEOPLE,
    Target,
    check_known,
    descendants,
    exports_of,
    later_masks,
    own_masks,
)
from flows.locks import stage_lock
from flows.merging.disputes import of_people, standing_of
from flows.models import serving
from flows.models.soundness import newest_sound
from flows.runs import finish_run, new_run
from flows.waiting import watermark
from flows.workspace import Workspace, placeholders, to_json
from storage.catalog.lake import Transaction
from storage.catalog.models import REVOKED
from storage.failpoints import failpoint
from storage.queue.items import NewItem
from storage.rows import RunRow, utcnow

# Before ordinary work, whose priorities end at 1: what stands on these images is known to lack.
_PRIORITY = 1.0
_STAGES = ", ".join(f"'{stage}'" for stage in PEOPLE)


@dataclass(frozen=True, kw_only=True)
class Blast:
    """What descends from the target; `serving` is the model in service if it does.

    `sound` is the newest version that could serve instead, None where there is none.
    """

    target: Target
    masks: list[dict[str, Any]]
    models: list[dict[str, Any]]
    later_masks: list[dict[str, Any]]
    exports: list[dict[str, Any]]
    serving: str | None
    sound: str | None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        names = ("masks", "models", "later_masks", "exports", "serving", "sound")
        return {"cause": self.target.cause, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, kw_only=True)
class RevokeOutcome:
    """What was done: masks retired, models marked, images put before people again.

    The images are also those of an earlier revocation that was cut short; without a run there was
    nothing else to do.
    """

    run_id: str | None
    num_masks: int
    models: tuple[str, ...]
    num_images: int


def blast_radius(workspace: Workspace, target: Target) -> Blast:
    """All that descends from the target; changes nothing. Raises UsageError if it is unknown."""
    check_known(workspace.lake, target)
    found = descendants(workspace.lake, target)
    versions = [row["version"] for row in found]
    current = serving.current_version(workspace)
    return Blast(
        target=target,
        masks=own_masks(workspace.lake, target),
        models=found,
        later_masks=later_masks(workspace.lake, target, versions),
        exports=exports_of(workspace, target, versions),
        serving=current if current in versions else None,
        sound=newest_sound(workspace, versions),
    )


def revoke(workspace: Workspace, target: Target) -> RevokeOutcome:
    """Retire the target's masks and the models with any of them in their line; safe to repeat.

    Images on which a mask of people's stood come into the queue again. Raises UsageError if the
    target is unknown, or has answers that are not merged yet.
    """
    check_known(workspace.lake, target)
    _check_merged(workspace, target)
    with stage_lock(workspace, "revoke"):
        num_images = sum(
            _finish(workspace, row["run_id"], json.loads(row["config"]))
            for row in _unfinished(workspace)
        )
        done = _retire(workspace, target)
        if done is None:
            return RevokeOutcome(run_id=None, num_masks=0, models=(), num_images=num_images)
        run, num_masks, versions = done
        failpoint("revoke.after_commit")
        num_images += _finish(workspace, run.run_id, json.loads(run.config))
    return RevokeOutcome(
        run_id=run.run_id, num_masks=num_masks, models=tuple(versions), num_images=num_images
    )


def _check_merged(workspace: Workspace, target: Target) -> None:
    if target.kind != "annotator":
        return
    waiting = workspace.queue.submissions_after(watermark(workspace), limit=None)
    if any(submission.annotator == target.name for submission in waiting):
        raise UsageError(
            f"--annotator: answers of {target.name} are not merged yet and would stand afterwards; "
            "run: maskloop merge"
        )


def _unfinished(workspace: Workspace) -> list[dict[str, Any]]:
    return workspace.lake.rows(
        "SELECT run_id, config FROM runs WHERE stage = 'revoke' AND status = 'running' "
        "ORDER BY started_at"
    )


def _retire(workspace: Workspace, target: Target) -> tuple[RunRow, int, list[str]] | None:
    """The one commit; None when there is nothing left to retire."""
    current = serving.current_version(workspace)
    last_seq = workspace.queue.last_seq()

    def body(tx: Transaction) -> tuple[RunRow, int, list[str]] | None:
        [now] = tx.rows("SELECT id FROM lake.current_snapshot()")
        config = {"target": target.to_dict(), "snapshot": now["id"], "after_seq": last_seq}
        run = new_run("revoke", config=to_json(config))
        versions = _retire_models(tx, target, current)
        num_masks = _retire_masks(tx, target, run.run_id, now["id"])
        if not num_masks and not versions:
            return None
        tx.insert([run])
        return run, num_masks, versions

    return workspace.lake.commit(body, message=f"revoke {target.cause}")


def _retire_masks(tx: Transaction, target: Target, run_id: str, snapshot: int) -> int:
    sql, params = target.own_masks
    return tx.execute(
        f"""INSERT INTO retractions BY NAME
            SELECT mask_id, ? AS run_id, CAST(? AS TIMESTAMP) AS created_at, ? AS cause,
                   CAST(? AS BIGINT) AS snapshot
            FROM masks ANTI JOIN retractions USING (mask_id) WHERE {sql}""",
        [run_id, utcnow(), target.cause, snapshot, *params],
    )


def _retire_models(tx: Transaction, target: Target, current: str | None) -> list[str]:
    """Mark what descends; all are retired but the one in service, which is people's to replace."""
    found = [row["version"] for row in descendants(tx, target)]
    rows = tx.rows(
        f"""SELECT version FROM model_versions
            WHERE version IN ({placeholders(found)}) AND NOT starts_with(coalesce(reason, ''), ?)
            ORDER BY created_at""",
        [*found, REVOKED],
    )
    versions = [row["version"] for row in rows]
    if versions:
        tx.execute(
            f"""UPDATE model_versions
                SET status = CASE WHEN version = ? THEN status ELSE 'retired' END,
                    reason = ? || coalesce('; before: ' || reason, '')
                WHERE version IN ({placeholders(versions)})""",
            [current, f"{REVOKED}has {target.cause} in its line", *versions],
        )
    return versions


def _finish(workspace: Workspace, run_id: str, config: Mapping[str, Any]) -> int:
    """Put the images into the queue and close the run; returns how many became ready.

    An image that was answered since, and one that waits already, stays as it is.
    """
    target = Target.from_dict(config["target"])
    num_new = 0
    for row in _images(workspace, target, config["snapshot"]):
        item = _item(workspace, row, target, run_id)
        num_new += workspace.queue.ask_anew(item, since=config["after_seq"])
    failpoint("revoke.after_queue")
    [kept] = workspace.lake.rows(
        "SELECT count(*) AS n FROM retractions WHERE run_id = ?", (run_id,)
    )
    workspace.lake.commit(
        lambda tx: finish_run(
            tx, run_id, num_images=num_new, num_masks=kept["n"], detail=target.cause
        ),
        message=f"revoked {target.cause}",
    )
    return num_new


def _images(workspace: Workspace, target: Target, snapshot: int) -> list[dict[str, Any]]:
    """Images, but for gold ones, on which a mask of people's that is retired now stood."""
    sql, params = target.own_masks
    stood = workspace.lake.rows(
        f"SELECT DISTINCT image_id FROM current_masks WHERE {sql} AND stage IN ({_STAGES})",
        params,
        snapshot=snapshot,
    )
    names = [row["image_id"] for row in stood]
    return workspace.lake.rows(
        f"""SELECT image_id, file_name, height, width FROM images
            WHERE split <> 'gold' AND image_id IN ({placeholders(names)}) ORDER BY image_id""",
        names,
    )


def _item(workspace: Workspace, row: dict[str, Any], target: Target, run_id: str) -> NewItem:
    """What still stands, to be decided on mask by mask as a dispute is, by anybody else."""
    standing = standing_of(workspace, row["image_id"])
    return NewItem(
        **row,
        model_version=_helper(workspace),
        run_id=run_id,
        iteration=0,
        priority=_PRIORITY,
        payload=ItemPayload(proposals=of_people(workspace, standing)).to_dict(),
        stage="dispute",
        not_for=target.name if target.kind == "annotator" else None,
    )


def _helper(workspace: Workspace) -> str:
    """The model that answers the clicks of whoever looks again."""
    version = serving.current_version(workspace)
    if version is None:
        raise UsageError(
            "revoke: the masks are retired, but no model is in service to help people who look at "
            "their images again; run: maskloop train or maskloop assist, then this again"
        )
    return version
