"""Names for masks: CLIP compares each with the names of some classes, or says none of these.

What it says is a suggestion, with how sure it is, until a person or a stated threshold accepts it.
A mask that a person or a file has named is asked no more; its name is what sureness is measured by.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from engine.clip.classes import ClassPrompts
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.naming import Calibration
from flows.clip.clips import not_known
from flows.clip.mask_vectors import Vectors, fill_vectors, keep, unpacked
from flows.clip.namer import BY_PEOPLE, Namer
from flows.errors import UsageError
from flows.locks import stage_lock
from flows.progress import Progress
from flows.runs import ALONE, Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.workspace import Workspace, to_json
from storage.catalog.lake import Transaction
from storage.rows import MaskLabelRow, utcnow

# What one commit names.
_AT_ONCE = 100_000
_UNNAMED = f"""FROM current_masks m JOIN mask_vectors v USING (mask_id)
    ANTI JOIN ({BY_PEOPLE}) named USING (mask_id)
    ANTI JOIN (SELECT mask_id FROM mask_labels WHERE classes_hash = ?) said USING (mask_id)
    WHERE v.encoder_id = ?"""


@dataclass(frozen=True, kw_only=True)
class LabelOutcome:
    """What a run named.

    num_seen: masks that CLIP had not seen before; num_named: masks that are one of the classes, and
    num_none: that are none of them; num_accepted: names that the threshold accepted, also of
    earlier runs; num_reviewed: masks that sureness was measured by.
    """

    run_id: str
    classes_hash: str
    num_seen: int
    num_named: int
    num_none: int
    num_accepted: int
    num_reviewed: int
    unread: tuple[str, ...]


def label_stage(
    workspace: Workspace,
    encoder: MaskEncoder,
    prompts: ClassPrompts,
    progress: Progress,
    *,
    accept: float | None = None,
    redo: bool = False,
    turn: Turn = ALONE,
) -> LabelOutcome:
    """Name every mask that stands and has no name; asked again, only those that are new.

    accept: from this probability on a name counts as accepted. redo: say anew what these classes
    were said before, with what people have named since. Raises UsageError for a threshold that is
    no probability.
    """
    if accept is not None and not 0 < accept <= 1:
        raise UsageError(f"--accept: must be above 0 and at most 1, but got {accept}")
    with stage_lock(workspace, "label"):
        reconcile_runs(workspace, "label")
        labeller = _Labeller(workspace, Namer.of(encoder, prompts))
        config = {
            "classes": prompts.classes,
            "templates": prompts.templates,
            "encoder": encoder.encoder_id,
            "views": asdict(encoder.views),
            "accept": accept,
        }
        run = new_run("label", turn=turn, config=to_json(config), config_hash=labeller.classes_hash)
        run_id = start_run(workspace, run)
        with failing_run(workspace, run_id):
            return labeller.run(run_id, progress, accept=accept, redo=redo)


class _Labeller:
    """Names the masks of a workspace by one set of classes."""

    def __init__(self, workspace: Workspace, namer: Namer) -> None:
        self._workspace = workspace
        self._namer = namer
        self._encoder = namer.encoder
        self.classes_hash = namer.classes_hash

    def run(
        self, run_id: str, progress: Progress, *, accept: float | None, redo: bool
    ) -> LabelOutcome:
        filled = fill_vectors(self._workspace, self._encoder, run_id, progress)
        for problem in filled.unread:
            progress.note(problem)
        if unknown := self._namer.unknown_words():
            progress.note(f"names of classes {not_known(unknown)}")
        if redo:
            self._forget()
        calibration = self._namer.calibration(self._workspace)
        if not calibration.num_reviewed:
            progress.note(
                "no mask that people or files named is one of these classes: how sure this is, is "
                "a guess until some are"
            )
        num_named, num_none = self._name(run_id, calibration, progress)

        def body(tx: Transaction) -> int:
            num_accepted = 0 if accept is None else self._accept(tx, accept)
            finish_run(
                tx,
                run_id,
                num_images=filled.num_images,
                num_masks=num_named + num_none,
                detail=to_json({"calibration": asdict(calibration), "accepted": num_accepted}),
            )
            return num_accepted

        num_accepted = self._workspace.lake.commit(body, message=f"label: {num_named} masks named")
        return LabelOutcome(
            run_id=run_id,
            classes_hash=self.classes_hash,
            num_seen=filled.num_masks,
            num_named=num_named,
            num_none=num_none,
            num_accepted=num_accepted,
            num_reviewed=calibration.num_reviewed,
            unread=filled.unread,
        )

    def _forget(self) -> None:
        self._workspace.lake.commit(
            lambda tx: tx.execute(
                "DELETE FROM mask_labels WHERE classes_hash = ?", (self.classes_hash,)
            ),
            message="label: names are given anew",
        )

    def _name(self, run_id: str, calibration: Calibration, progress: Progress) -> tuple[int, int]:
        """How many masks are one of the classes, and how many none."""
        which = (self.classes_hash, self._encoder.encoder_id)
        total = self._workspace.lake.rows(f"SELECT count(*) AS n {_UNNAMED}", which)[0]["n"]
        num_named = num_none = 0
        while num_named + num_none < total:
            found = self._workspace.lake.arrow(
                f"SELECT m.mask_id, v.vector {_UNNAMED} LIMIT {_AT_ONCE}", which
            )
            if not len(found):
                break
            vectors = unpacked(found["vector"], self._encoder.clip.dim)
            rows = self._rows(found["mask_id"].to_pylist(), vectors, calibration, run_id)
            keep(self._workspace, rows, f"names for {len(rows)} masks")
            none = sum(row.category is None for row in rows)
            num_none += none
            num_named += len(rows) - none
            progress.step("masks named", num_named + num_none, total)
        return num_named, num_none

    def _rows(
        self, mask_ids: Sequence[str], vectors: Vectors, calibration: Calibration, run_id: str
    ) -> list[MaskLabelRow]:
        now = utcnow()
        return [
            MaskLabelRow(
                mask_id=mask_id,
                category=category,
                score=score,
                classes_hash=self.classes_hash,
                created_at=now,
                run_id=run_id,
            )
            for mask_id, (category, score) in zip(
                mask_ids, self._namer.names(vectors, calibration), strict=True
            )
        ]

    def _accept(self, tx: Transaction, accept: float) -> int:
        """Names that are sure enough, of this and of earlier runs."""
        which = "classes_hash = ? AND category IS NOT NULL AND accepted_by IS NULL AND score >= ?"
        given = (self.classes_hash, accept)
        num = tx.rows(f"SELECT count(*) AS n FROM mask_labels WHERE {which}", given)[0]["n"]
        if num:
            tx.execute(
                f"UPDATE mask_labels SET accepted_by = ? WHERE {which}",
                (f"threshold {accept:g}", *given),
            )
        return int(num)
