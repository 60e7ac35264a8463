"""The simulated annotator as a client of a real server: what it decides, and what it costs."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator.client import AnnotatorClient
from annotator.simulated import SimulatedAnnotator, SimulationSummary, run_simulated
from annotator.submission import AddedMask, Decision, Submission
from annotator.truth import Truth, TruthError
from annotator.visit import SimulationConfig
from engine import coco, rle
from engine.coco import CocoImage, CocoMask
from engine.geometry import Window
from engine.model import weights
from engine.model.interactive import Answer, InteractivePredictor
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.rle import Rle
from storage.queue.leases import Claim

HW = (96, 128)


def simulate(desk: Any, truth: Any = None, **config: Any) -> SimulationSummary:
    with AnnotatorClient(desk.server.url, "sim") as client:
        known = desk.truth() if truth is None else truth
        return SimulatedAnnotator(client, known, SimulationConfig(**config)).work()


def submissions(desk: Any) -> dict[str, Submission]:
    """What was submitted, by file name."""
    stored = desk.queue.submissions_after(0, limit=None)
    return {one.item.file_name: Submission.parse(one.body) for one in stored}


def cost(submission: Submission, drawing_clicks: int) -> int:
    """Clicks of the budget: those of masks that were given up are not logged."""
    return submission.num_clicks + drawing_clicks * sum(part.drawn for part in submission.parts)


def iou(mask: Rle | None, truth: np.ndarray[Any, Any]) -> float:
    assert mask is not None
    return float(rle.iou_matrix([mask], [rle.encode_one(truth)])[0, 0])


def test_it_accepts_corrects_rejects_and_adds_by_the_truth(desk: Any) -> None:
    with desk.open():
        summary = simulate(desk)
    assert (summary.num_items, summary.num_accepted, summary.num_edited) == (3, 2, 1)
    assert (summary.num_rejected, summary.num_added, summary.num_drawn) == (1, 3, 0)
    assert desk.queue.counts() == {"ready": 0, "leased": 0, "done": 3, "dead": 0}
    first, truth = submissions(desk)["picture-1.png"], desk.pictures[0].masks
    assert [(d.proposal_id, d.action) for d in first.decisions] == [
        ("p0", "accepted"),
        ("p1", "edited"),
        ("p2", "rejected"),
    ]
    assert iou(first.decisions[1].segmentation, truth[1]) >= 0.85
    (added,) = first.added
    assert iou(added.segmentation, truth[2]) >= 0.85
    assert summary.num_clicks == sum(s.num_clicks for s in submissions(desk).values())
    assert all(submission.complete for submission in submissions(desk).values())


def test_what_stands_out_most_is_added_first(desk: Any) -> None:
    with desk.open():
        simulate(desk)
    large, small = submissions(desk)["picture-2.png"].added
    assert iou(large.segmentation, desk.pictures[1].masks[0]) >= 0.85
    assert iou(small.segmentation, desk.pictures[1].masks[1]) >= 0.85


def test_each_click_is_kept_with_its_time_and_its_mask(desk: Any) -> None:
    with desk.open():
        simulate(desk, seconds_per_click=1.5, seconds_per_decision=2.0)
    for submission in submissions(desk).values():
        clicks = [click for part in submission.parts for click in part.clicks]
        times = [click.at_s for click in clicks]
        assert times == sorted(times)
        assert submission.seconds >= max(times, default=0.0)
        assert all(click.segmentation is not None for click in clicks)
        for part in submission.parts:
            if part.clicks and not part.drawn:
                assert part.clicks[-1].segmentation == part.segmentation


@pytest.mark.parametrize(
    ("budget", "stubborn"), [(1, False), (5, False), (5, True), (12, True), (60, True)]
)
def test_it_stays_within_its_clicks(desk: Any, budget: int, stubborn: bool) -> None:
    if stubborn:
        desk.models.stubborn = {0, 1, 2}
    with desk.open():
        simulate(desk, num_clicks_per_image=budget, drawing_clicks=8, target_iou=0.95)
    assert len(submissions(desk)) == 3, "an item is answered with what the budget allowed"
    for picture in desk.pictures:
        submission = submissions(desk)[picture.file_name]
        kept = [each for each in submission.decisions if each.action != "rejected"]
        num_masks = len(kept) + len(submission.added)
        assert submission.complete is (num_masks == len(picture.masks))
        assert cost(submission, 8) <= budget


def test_what_clicks_cannot_make_is_drawn(desk: Any) -> None:
    desk.models.stubborn = {0, 1, 2}
    with desk.open():
        summary = simulate(desk, target_iou=0.95, max_clicks_per_mask=2)
    drawn = submissions(desk)["picture-2.png"].added
    assert summary.num_drawn == 4
    assert [mask.drawn for mask in drawn] == [True, True]
    assert [iou(m.segmentation, t) for m, t in zip(drawn, desk.pictures[1].masks, strict=True)] == [
        1.0,
        1.0,
    ]
    assert [len(mask.clicks) for mask in drawn] == [2, 2], "the clicks before it are kept"


def test_nothing_is_done_without_an_object(desk: Any) -> None:
    nothing = {picture.file_name: [] for picture in desk.pictures}
    with desk.open():
        summary = simulate(desk, truth=nothing)
    assert (summary.num_rejected, summary.num_accepted, summary.num_clicks) == (4, 0, 0)


def test_small_objects_are_overlooked(desk: Any) -> None:
    with desk.open():
        summary = simulate(desk, min_area=1000)
    assert summary.num_added == 1, "one disk of the second image is smaller, one of the first too"


def run_again(desk: Any, version: str, priorities: list[float], **config: Any) -> dict[str, Any]:
    """The same images for another model version, in another order; bodies by file name."""
    before = desk.queue.last_seq()
    masks = [[desk.pictures[0].masks[0]], [], []]
    desk.queue.enqueue(
        desk.new_item(picture, offered, model_version=version, priority=priority)
        for picture, offered, priority in zip(desk.pictures, masks, priorities, strict=True)
    )
    simulate(desk, **config)
    later = desk.queue.submissions_after(before, limit=None)
    return {stored.item.file_name: stored.body for stored in later}


def test_it_is_deterministic_by_seed_whatever_the_order(desk: Any) -> None:
    desk.queue.withdraw("run-1")
    with desk.open():
        one = run_again(desk, "a", [3, 2, 1], seed=1)
        two = run_again(desk, "b", [1, 2, 3], seed=1)
        other = run_again(desk, "c", [1, 2, 3], seed=2)
    assert len(one) == 3
    assert one == two
    assert one != other


def test_a_real_model_answers_the_same_way(desk: Any) -> None:
    """The shipped weights behind the API: whatever they are worth, the protocol holds."""
    desk.models = RealModel(desk.images)
    with desk.open():
        summary = simulate(desk, num_clicks_per_image=40, max_clicks_per_mask=3)
    assert (summary.num_items, summary.num_accepted, summary.num_rejected) == (3, 2, 1)
    for picture in desk.pictures:
        submission = submissions(desk)[picture.file_name]
        assert cost(submission, 8) <= 40
        for part in submission.parts:
            if part.segmentation is not None:
                assert max(iou(part.segmentation, truth) for truth in picture.masks) >= 0.85


class RealModel:
    """A predictor over the pictures of a desk."""

    def __init__(self, images: Any) -> None:
        shipped = resources.files("engine.model") / "shipped" / "nano.safetensors"
        model, _ = weights.load(shipped.read_bytes())
        self._predictor = Predictor(model, version="shipped")
        self._images = images

    def predict(
        self,
        image_id: str,
        model_version: str,
        prompt: Prompts,
        *,
        window: Window | None,
        multimask: bool,
    ) -> Sequence[Answer]:
        assert model_version == "v1"
        pixels = self._images.pixels(image_id)
        clicks = InteractivePredictor.on(self._predictor, pixels, self._predictor.embed(pixels))
        return clicks.answer(prompt, window, multimask=multimask)

    def describe(self, model_version: str) -> None:
        """A simulated annotator has no use for it."""

    def reads_text(self, model_version: str) -> bool:
        assert model_version == "v1"
        return False


def test_an_item_without_its_truth_is_given_back(desk: Any) -> None:
    with desk.open(), pytest.raises(TruthError, match=r"knows no 'picture-1\.png'"):
        simulate(desk, truth={"another.png": []})
    assert desk.queue.counts() == {"ready": 3, "leased": 0, "done": 0, "dead": 0}
    waiting = [desk.queue.item(head.item_id) for head in desk.queue.ready_items(["assist"])]
    assert [item.attempts for item in waiting] == [0, 0, 0]


def test_a_truth_of_another_size_is_refused(desk: Any) -> None:
    wrong = {name: [rle.encode_one(np.ones((10, 20), bool))] for name in desk.truth()}
    with desk.open(), pytest.raises(TruthError, match=r"must be 96 x 128 .* got masks of 10 x 20"):
        simulate(desk, truth=wrong)
    assert desk.queue.counts()["ready"] == 3


def test_an_item_that_went_to_another_is_counted_as_lost(desk: Any) -> None:
    original, taken = desk.models.predict, []

    def stolen(*arguments: Any, **how: Any) -> Any:
        if not taken:
            (holder,) = desk.queue.holders()
            # Behind its back, as if its lease had run out long ago.
            with desk.queue.database.write() as connection:
                late = "UPDATE items SET lease_expires = 0 WHERE state = 'leased'"
                connection.exec_driver_sql(late)
            others = [desk.queue.claim(name) for name in ("bob", "cy", "dee")]
            taken.append(others[-1].item.item_id)
            assert taken == [holder.item_id]
        return original(*arguments, **how)

    desk.models.predict = stolen
    with desk.open():
        summary = simulate(desk)
    assert (summary.num_items, summary.num_lost) == (0, 1)
    assert desk.queue.last_seq() == 0


def test_it_sends_heartbeats_while_it_works(desk: Any) -> None:
    beats: list[int] = []
    original = desk.queue.work.heartbeat

    def counting(held: Claim) -> Any:
        beats.append(held.lease_token)
        return original(held)

    desk.queue.work.heartbeat = counting
    with desk.open(heartbeat_s=0.001):
        summary = simulate(desk)
    assert summary.num_items == 3
    assert len(beats) >= summary.num_clicks


def test_it_waits_for_more_as_long_as_it_is_told(desk: Any) -> None:
    naps, heard = [], []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            again = desk.new_item(desk.pictures[2], [], model_version="v2")
            desk.queue.enqueue([again])

    with desk.open(), AnnotatorClient(desk.server.url, "sim") as client:
        worker = SimulatedAnnotator(client, desk.truth(), sleep=nap)
        summary = worker.work(wait_s=3.0, on_item=heard.append)
    assert summary.num_items == 4
    assert heard == [1, 2, 3, 4]
    assert len(naps) == 2 + 3


def test_the_truth_may_be_a_file(desk: Any, tmp_path: Path) -> None:
    with desk.open():
        summary = run_simulated(desk.server.url, desk.write_truth(tmp_path / "truth.json"))
    assert (summary.num_items, summary.num_added) == (3, 3)
    assert {stored.annotator for stored in desk.queue.submissions_after(0)} == {"simulated"}


def test_two_images_of_one_name_are_no_truth(desk: Any, tmp_path: Path) -> None:
    path = desk.write_truth(tmp_path / "truth.json", image_2="picture-1.png")
    with pytest.raises(TruthError, match="must each have a file_name of their own"):
        Truth.read(path)


def test_crowd_regions_are_no_objects(tmp_path: Path) -> None:
    image = CocoImage(id=1, file_name="a.png", height=4, width=5)
    mask = rle.encode_one(np.ones((4, 5), bool))
    masks = [
        CocoMask(id=number, image_id=1, category="x", rle=mask, is_crowd=crowd)
        for number, crowd in ((1, True), (2, False))
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(coco.document([image], masks, {1: "x"}, {})))
    assert Truth.read(path).masks == {"a.png": [mask]}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_clicks_per_image": 0}, "num_clicks_per_image"),
        ({"drawing_clicks": 0}, "drawing_clicks"),
        ({"accept_iou": 1.5}, "accept_iou"),
        ({"target_iou": 0.0}, "target_iou"),
        ({"fix_iou": 0.9}, "fix_iou"),
        ({"jitter_px": -1.0}, "jitter_px"),
        ({"seconds_per_click": float("nan")}, "seconds_per_click"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_config_that_makes_no_sense_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        SimulationConfig(**changes)


def test_a_summary_counts_decisions_and_masks() -> None:
    mask = rle.encode_one(np.ones((4, 5), bool))
    submission = Submission(
        decisions=(
            Decision(proposal_id="a", action="accepted"),
            Decision(proposal_id="b", action="edited", segmentation=mask, drawn=True),
        ),
        added=(AddedMask(segmentation=mask),),
        seconds=2.5,
    )
    summary = SimulationSummary(num_lost=1).plus(submission).plus(submission)
    assert summary == SimulationSummary(
        num_items=2, num_accepted=2, num_edited=2, num_added=2, num_drawn=2, num_lost=1, seconds=5.0
    )
