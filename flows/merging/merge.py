"""People's submissions into the store: masks, clicks, decisions; each submission once, in order.

How far the queue's outbox was merged is a watermark in the lake, moved by the commit that brings
the rows: a crash in between merges again, a merge that lost a race changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.locks import stage_lock
from flows.merging.agreements import agreements
from flows.merging.disputes import ask_leads
from flows.merging.merge_rows import BRING_MASKS, AnswerRows, read_answer
from flows.merging.standing import changes
from flows.progress import Progress
from flows.recipes import DISPUTE_BELOW
from flows.runs import ALONE, Turn, finish_run, new_run
from flows.suppression import suppressions
from flows.waiting import WATERMARK, watermark
from flows.workspace import Workspace, placeholders
from storage.catalog.lake import Transaction
from storage.rows import RunRow, WatermarkRow, utcnow

_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class MergeOutcome:
    """What one merge brought; `num_disputes` are those that wait for a lead since."""

    run_id: str | None
    num_submissions: int
    num_masks: int
    num_clicks: int
    num_disputes: int


@dataclass(frozen=True)
class _Brought:
    """What the commits of one merge have brought so far."""

    images: frozenset[str] = frozenset()
    num_submissions: int = 0
    num_masks: int = 0
    num_clicks: int = 0


def merge_stage(
    workspace: Workspace,
    progress: Progress,
    *,
    turn: Turn = ALONE,
    dispute_below: float = DISPUTE_BELOW,
) -> MergeOutcome:
    """Bring every submission that is not in the store yet; safe to repeat.

    Two answers about one image that agree by a mean IoU under `dispute_below` are for a lead.
    """
    with stage_lock(workspace, "merge"):
        run = new_run("merge", turn=turn)
        total = _Brought()
        while True:
            low = watermark(workspace)
            new = workspace.queue.submissions_after(low, limit=_AT_ONCE)
            if not new and (total.num_submissions or turn == ALONE):
                break
            answers = [read_answer(workspace, submission, run.run_id) for submission in new]
            high = new[-1].seq if new else low
            total = _commit(workspace, run, answers, (low, high), total, dispute_below)
            progress.step("submissions merged", total.num_submissions, total.num_submissions)
            if len(new) < _AT_ONCE:
                break
        num_disputes = ask_leads(workspace)
    return MergeOutcome(
        run_id=run.run_id if total.num_submissions or turn != ALONE else None,
        num_submissions=total.num_submissions,
        num_masks=total.num_masks,
        num_clicks=total.num_clicks,
        num_disputes=num_disputes,
    )


def _commit(
    workspace: Workspace,
    run: RunRow,
    answers: Sequence[AnswerRows],
    seqs: tuple[int, int],
    before: _Brought,
    dispute_below: float,
) -> _Brought:
    def body(tx: Transaction) -> _Brought:
        if not before.num_submissions:
            tx.insert([run])
        _move_watermark(tx, *seqs)
        total = _insert(tx, answers, before)
        tx.insert(agreements(tx, answers, dispute_below))
        finish_run(tx, run.run_id, num_images=len(total.images), num_masks=total.num_masks)
        return total

    return workspace.lake.commit(body, message=f"merge {len(answers)} submissions")


def _insert(tx: Transaction, answers: Sequence[AnswerRows], before: _Brought) -> _Brought:
    """The rows of the answers, and what they change; returns all that was brought so far."""
    bringing = [answer for answer in answers if answer.kind in BRING_MASKS]
    made = changes(tx, bringing)
    for rows in (made.masks, made.labels, made.clicks, made.retractions):
        tx.insert(rows)
    tx.insert([row for answer in bringing for row in answer.decisions])
    tx.insert([answer.review for answer in answers])
    _seen_by_people(tx, sorted({answer.item.image_id for answer in bringing}))
    return _Brought(
        images=before.images | {answer.item.image_id for answer in answers},
        num_submissions=before.num_submissions + len(answers),
        num_masks=before.num_masks + len(made.masks),
        num_clicks=before.num_clicks + len(made.clicks),
    )


def _seen_by_people(tx: Transaction, images: Sequence[str]) -> None:
    """Images with an answer are to be learnt from, and what it covers stands no more."""
    if not images:
        return
    marks = placeholders(images)
    tx.execute(
        f"UPDATE images SET split = 'train' WHERE split = 'unlabelled' AND image_id IN ({marks})",
        images,
    )
    tx.insert(suppressions(tx, f"image_id IN ({marks})", images))


def _move_watermark(tx: Transaction, low: int, high: int) -> None:
    found = tx.rows("SELECT seq FROM watermarks WHERE name = ?", [WATERMARK])
    # The stage lock keeps others out; should it ever fail, doubled masks must not come of it.
    assert (found[0]["seq"] if found else 0) == low, "another merge moved the watermark"
    if found:
        tx.execute(
            "UPDATE watermarks SET seq = ?, updated_at = ? WHERE name = ?",
            [high, utcnow(), WATERMARK],
        )
    else:
        tx.insert([WatermarkRow(name=WATERMARK, seq=high, updated_at=utcnow())])
