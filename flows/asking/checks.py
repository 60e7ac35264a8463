"""Items that measure people: hidden ones whose masks are known, and answers asked for once more.

To whoever gets them they look as any other.
"""

from collections.abc import Sequence
from dataclasses import replace

from annotator.item import ItemPayload
from flows.annotating.lent_tokens import LOOP
from flows.asking.looking import Looker
from flows.images.splits import unit_hash
from flows.models.embeddings import EmbeddingStore
from flows.progress import Silent
from flows.runs import Turn
from flows.waiting import Row
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.queue.people import People

# The gold images whose masks are known, those first that people were asked about least.
_GOLD = """
    SELECT i.image_id, i.uri, i.file_name, count(DISTINCT a.submission_id) AS times
    FROM images i
    JOIN current_masks m ON m.image_id = i.image_id AND m.stage = 'label'
    LEFT JOIN agreements a ON a.image_id = i.image_id AND a.kind = 'gold'
    WHERE i.split = 'gold' GROUP BY ALL ORDER BY times, i.image_id
"""
_ASKED = """
    SELECT coalesce(sum(num_images), 0)::BIGINT AS num_images FROM runs
    WHERE stage = 'assist' AND status = 'done'
"""
# Since people were asked last; before, others were drawn.
_NEW_ANSWERS = """
    SELECT r.submission_id, r.item_id, r.annotator, r.run_id
    FROM reviews r JOIN runs m USING (run_id)
    WHERE coalesce(r.kind, 'assist') = 'assist' AND m.started_at > coalesce(
        (SELECT max(started_at) FROM runs WHERE stage = 'assist' AND status = 'done'),
        TIMESTAMP '1970-01-01')
    QUALIFY row_number() OVER (PARTITION BY r.image_id ORDER BY r.seq DESC) = 1
    ORDER BY r.seq
"""
_FEWEST_PEOPLE = 2


def gold_items(looker: Looker, num_items: int, run_id: str, turn: Turn) -> list[NewItem]:
    """Hidden checks to go with `num_items` ordinary items, as many as the recipe's rate says.

    The rate is that of all items so far, so that small batches have one now and then.
    """
    [before] = looker.workspace.lake.rows(_ASKED)
    rate, asked_before = looker.config.gold, int(before["num_images"])
    wanted = int((asked_before + num_items) * rate) - int(asked_before * rate)
    if not wanted:
        return []
    asked = looker.workspace.queue.asked_images(looker.version)
    free = [row for row in looker.workspace.lake.rows(_GOLD) if row["image_id"] not in asked]
    free.sort(key=lambda row: (row["times"], unit_hash(0, f"gold {run_id} {row['image_id']}")))
    rows: Sequence[Row] = free[:wanted]
    seen = looker.look(rows, Silent())
    EmbeddingStore(looker.workspace).keep([(each.image_id, each.embedding) for each in seen])
    return [replace(looker.item(each, run_id, turn), item_id="", stage="gold") for each in seen]


def second_items(workspace: Workspace, share: float, turn: Turn) -> list[NewItem]:
    """Answers that somebody else is asked for again: the `share` of those that are new.

    They are of the run that merged the answer, so that nobody who waits for a batch waits for them:
    who may do them may be away. None where fewer than two people can sign in: there is nobody else.
    """
    if not share or _num_people(workspace) < _FEWEST_PEOPLE:
        return []
    drawn = [
        row
        for row in workspace.lake.rows(_NEW_ANSWERS)
        if unit_hash(0, f"second {row['submission_id']}") < share
    ]
    return [_second(workspace, row, turn) for row in drawn]


def _second(workspace: Workspace, answer: Row, turn: Turn) -> NewItem:
    first = workspace.queue.item(str(answer["item_id"]))
    # What was withheld once was judged by the first answer.
    payload = ItemPayload(proposals=ItemPayload.from_dict(first.payload).proposals)
    return NewItem(
        image_id=first.image_id,
        file_name=first.file_name,
        height=first.height,
        width=first.width,
        model_version=first.model_version,
        run_id=str(answer["run_id"]),
        iteration=turn.iteration or 0,
        priority=first.priority,
        payload=payload.to_dict(),
        stage="second",
        not_for=str(answer["annotator"]),
    )


def _num_people(workspace: Workspace) -> int:
    everybody = People(workspace.queue.database).everybody()
    return sum(person.revoked_at is None and person.name != LOOP for person in everybody)
