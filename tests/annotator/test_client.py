"""The API as Python calls: what they bring, what they wait out, and what they report."""

import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.responses import HTMLResponse

from annotator.client import (
    AnnotatorClient,
    ApiError,
    LeaseLostError,
    Patience,
    UnavailableError,
)
from annotator.messages import PredictRequest
from annotator.submission import Decision, Submission
from storage.queue.database import Database
from storage.queue.review import ReviewQueue


class LossyWire(httpx.HTTPTransport):
    """A connection that loses the answers to the first `num_lost` requests, not the requests."""

    def __init__(self, num_lost: int) -> None:
        super().__init__(verify=False)
        self.num_lost = num_lost

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if self.num_lost > 0:
            self.num_lost -= 1
            response.close()
            raise httpx.ReadError("connection reset", request=request)
        return response


@pytest.fixture
def ada(desk: Any) -> Iterator[AnnotatorClient]:
    with desk.open(), AnnotatorClient(desk.server.url, "ada") as client:
        yield client


def accept_all(work: Any) -> Submission:
    names = [proposal.proposal_id for proposal in work.item.proposals]
    return Submission(
        decisions=tuple(Decision(proposal_id=name, action="accepted") for name in names)
    )


def test_a_day_of_work(ada: AnnotatorClient, desk: Any) -> None:
    first = ada.claim()
    assert first is not None
    assert first.item.file_name == "picture-1.png"
    assert ada.heartbeat(first) == pytest.approx(120, abs=2)
    np.testing.assert_array_equal(ada.pixels(first), desk.pictures[0].pixels)
    answer = ada.predict(first, PredictRequest(points=((30.0, 30.0),), labels=(1,)))
    assert len(answer.masks) == 3
    ada.skip(first)
    second = ada.claim()
    assert second is not None
    ada.release(second)
    third = ada.claim()
    assert third is not None
    assert ada.submit(third, accept_all(third)).state == "done"
    progress = ada.progress("run-1")
    assert progress.run is not None
    assert (progress.counts.done, progress.run.done, progress.run.ready) == (1, 1, 2)


def test_an_answer_that_was_lost_is_asked_for_again(desk: Any) -> None:
    naps: list[float] = []
    with desk.open():
        http = httpx.Client(base_url=desk.server.url, transport=LossyWire(0))
        with AnnotatorClient(desk.server.url, "ada", http=http, sleep=naps.append) as client:
            work = client.claim()
            assert work is not None
            http._transport.num_lost = 3  # type: ignore[attr-defined] # ours, LossyWire
            answer = client.submit(work, accept_all(work))
    (stored,) = desk.queue.submissions_after(0)
    assert stored.submission_id == answer.submission_id
    assert len(naps) == 3
    assert naps[0] < naps[2], "longer each time"


def test_a_busy_server_says_when_to_come_back(desk: Any, tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite"
    desk.queue.close()
    desk.queue = ReviewQueue(Database.open(f"sqlite:///{file}", busy_timeout_s=0.1))
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        blocker.execute("ROLLBACK")

    with desk.open(retry_after_s=7), AnnotatorClient(desk.server.url, "ada", sleep=nap) as client:
        assert client.claim() is not None
    blocker.close()
    assert naps == [7.0]


def test_a_server_that_stays_away_is_given_up() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    naps: list[float] = []
    patience = Patience(timeout_s=1, give_up_after_s=0.3)
    with (
        AnnotatorClient(url, "ada", patience=patience, sleep=naps.append) as client,
        pytest.raises(UnavailableError, match=f"{url}: no answer in 0.3 s .*running there"),
    ):
        client.claim()
    assert naps


def test_a_lease_that_went_to_another_is_lost(ada: AnnotatorClient, desk: Any) -> None:
    work = ada.claim()
    assert work is not None
    desk.queue.release(work.item.item_id, work.lease_token, "ada")
    desk.queue.claim("bob")
    with pytest.raises(LeaseLostError, match="no longer yours") as caught:
        ada.submit(work, accept_all(work))
    assert (caught.value.status, caught.value.problem.error) == (409, "stale_lease")


def test_a_refusal_says_why(ada: AnnotatorClient) -> None:
    with pytest.raises(ApiError, match="run-9: has no items") as caught:
        ada.progress("run-9")
    assert caught.value.status == 404


@pytest.mark.parametrize("status", [200, 404])
def test_another_kind_of_server_is_recognised(ada: AnnotatorClient, desk: Any, status: int) -> None:
    desk.server.app = HTMLResponse("<h1>It works!</h1>", status_code=status)
    with pytest.raises(ApiError, match="not an answer of the annotator") as caught:
        ada.claim()
    assert caught.value.problem.error == "not_ours"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8765", "ftp://127.0.0.1", "http://", "//host"])
def test_an_address_is_http(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: must be http://HOST:PORT"):
        AnnotatorClient(url, "ada")


@pytest.mark.parametrize("values", [{"timeout_s": 0}, {"give_up_after_s": float("nan")}])
def test_patience_is_positive(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(values))}: must be positive"):
        Patience(**values)
