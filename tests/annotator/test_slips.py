"""Careful and careless simulated annotators: exact masks, or masks beside their objects."""

from typing import Any

import numpy as np
import pytest

from annotator.client import AnnotatorClient
from annotator.simulated import SimulatedAnnotator
from annotator.slips import Slips, shifted
from annotator.submission import AddedMask, Decision, Submission
from annotator.visit import SimulationConfig
from engine import rle
from engine.rle import Rle

HW = (40, 60)


def block(top: int, left: int, height: int, width: int) -> Rle:
    pixels = np.zeros(HW, bool)
    pixels[top : top + height, left : left + width] = True
    return rle.encode_one(pixels)


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        pytest.param(block(2, 4, 10, 8), block(7, 8, 10, 8), id="right and down"),
        pytest.param(block(28, 50, 10, 8), block(23, 46, 10, 8), id="left and up"),
        pytest.param(block(5, 0, 10, 60), block(10, 30, 10, 30), id="over the edge"),
        pytest.param(block(0, 0, 1, 1), block(1, 1, 1, 1), id="one pixel"),
    ],
)
def test_a_shifted_mask_lies_beside_its_object(mask: Rle, wanted: Rle) -> None:
    assert shifted(mask) == wanted


def test_what_is_shifted_out_of_the_image_is_gone() -> None:
    assert shifted(rle.encode_one(np.ones((1, 1), bool))) is None


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_a_share_of_the_masks_slips_half_shifted_half_forgotten(rate: float) -> None:
    slips = Slips(rate, np.random.default_rng(0))
    added = AddedMask(segmentation=block(2, 4, 10, 8))
    sent = [slips.in_added(added) for _ in range(1000)]
    wrong = sum(mask != added for mask in sent)
    forgotten = sum(mask is None for mask in sent)
    assert wrong == pytest.approx(1000 * rate, abs=50)
    assert forgotten == pytest.approx(500 * rate, abs=50)


def test_a_slip_in_a_decision_edits_or_rejects() -> None:
    slips = Slips(1.0, np.random.default_rng(0))
    proposal, better = block(2, 4, 10, 8), block(20, 30, 10, 8)
    accepted = Decision(proposal_id="p", action="accepted")
    edited = Decision(proposal_id="p", action="edited", segmentation=better)
    for decision, mask in ((accepted, proposal), (edited, better)):
        sent = [slips.in_decision(decision, proposal) for _ in range(20)]
        assert {each.action for each in sent} == {"edited", "rejected"}
        assert {each.segmentation for each in sent} == {shifted(mask), None}
    rejected = Decision(proposal_id="p", action="rejected")
    assert slips.in_decision(rejected, proposal) is rejected


def simulate(desk: Any, config: SimulationConfig) -> dict[str, Submission]:
    with desk.open(), AnnotatorClient(desk.server.url, "sim") as client:
        SimulatedAnnotator(client, desk.truth(), config).work()
    stored = desk.queue.submissions_after(0, limit=None)
    return {one.item.file_name: Submission.parse(one.body) for one in stored}


def test_a_careful_annotator_leaves_exact_masks_only(desk: Any) -> None:
    desk.models.stubborn = {0, 1, 2}
    sent = simulate(desk, SimulationConfig.careful(max_clicks_per_mask=2))
    proposed = rle.encode_one(desk.pictures[0].masks[0])
    for picture in desk.pictures:
        submission = sent[picture.file_name]
        kept = [each for each in submission.decisions if each.action != "rejected"]
        left = [each.segmentation or proposed for each in (*kept, *submission.added)]
        truth = desk.truth()[picture.file_name]
        if picture is desk.pictures[2]:
            # Its only object was proposed exactly.
            assert [each.action for each in kept] == ["accepted"]
        else:
            assert sorted(mask.counts for mask in left) == sorted(mask.counts for mask in truth)
        assert submission.complete
    assert any(part.drawn for submission in sent.values() for part in submission.parts)


def test_who_slips_everywhere_leaves_nothing_right_and_does_not_notice(desk: Any) -> None:
    sent = simulate(desk, SimulationConfig(slip_rate=1.0, seed=2))
    for picture in desk.pictures:
        submission, truth = sent[picture.file_name], desk.truth()[picture.file_name]
        assert submission.complete
        assert "accepted" not in {each.action for each in submission.decisions}
        left = [part.segmentation for part in submission.parts if part.segmentation]
        assert rle.iou_matrix(left, truth).max(initial=0.0) < 0.5
    assert any(part.segmentation for each in sent.values() for part in each.parts)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match=r"^slip_rate: must be in \[0, 1\]"):
        SimulationConfig(slip_rate=rate)
