"""People's half of a turn: what is waited for, where people find it, and how a review ends."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from annotator.client import AnnotatorClient
from annotator.submission import Submission
from flows.annotating.people import annotator_server, listen
from flows.errors import StageError
from flows.processes.prefect_server import free_port
from flows.progress import Silent
from flows.recipes import Recipe
from flows.runs import ALONE, Turn, finish_run, new_run, start_run
from flows.turns.loop import LoopConfig, review_stage
from flows.workspace import Workspace, open_workspace
from storage.queue.items import NewItem

TURN = Turn(iteration=1, parent_run_id="loop", recipe="quick")
HOST = "127.0.0.1"


@pytest.fixture
def desk(workspace: Workspace) -> Workspace:
    """An empty workspace whose annotator has a port of its own."""
    return at_port(workspace, free_port())


def at_port(workspace: Workspace, port: int) -> Workspace:
    annotator = replace(workspace.settings.annotator, port=port)
    return replace(workspace, settings=replace(workspace.settings, annotator=annotator))


def url_of(workspace: Workspace) -> str:
    return f"http://{HOST}:{workspace.settings.annotator.port}"


def asked(workspace: Workspace, *names: str, turn: Turn = TURN, priority: float = 0.0) -> str:
    """An assist run that is done and has queued an image of each name."""
    run_id = start_run(workspace, new_run("assist", turn=turn))
    workspace.queue.enqueue(
        NewItem(
            image_id=name,
            file_name=f"{name}.png",
            height=9,
            width=9,
            model_version="v1",
            run_id=run_id,
            iteration=turn.iteration or 0,
            priority=priority,
            payload={"proposals": []},
        )
        for name in names
    )
    workspace.lake.commit(lambda tx: finish_run(tx, run_id), message="test")
    return run_id


def answer(url: str) -> bool:
    """Do the next item over HTTP, as the annotator's page does; False when there is none."""
    with AnnotatorClient(url, "ada") as client:
        work = client.claim()
        if work is not None:
            client.submit(work, Submission())
        return work is not None


class Person(Silent):
    """Hears that people are waited for, and does an item at each look, up to `patience`."""

    def __init__(self, patience: int = 99) -> None:
        self.notes: list[str] = []
        self.patience = patience

    @property
    def address(self) -> str:
        [waiting] = [note for note in self.notes if note.startswith("Waiting for people: open ")]
        return waiting.split()[4].rstrip(",")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, what: str, done: int, total: int) -> None:  # noqa: ARG002 -- Progress's own
        if self.patience and answer(self.address):
            self.patience -= 1


def review(workspace: Workspace, recipe: Recipe, run_id: str, person: Any, hours: float = 1) -> Any:
    config = LoopConfig(deadline_s=hours * 3600)
    return review_stage(workspace, recipe, config, person, turn=TURN, run_id=run_id)


def run_of(workspace: Workspace, stage: str) -> dict[str, Any]:
    [row] = workspace.lake.rows(
        "SELECT * FROM runs WHERE stage = ? AND iteration IS NOT NULL", (stage,)
    )
    return row


def test_a_review_ends_when_everything_is_answered(desk: Workspace, recipe: Recipe) -> None:
    run_id = asked(desk, "a", "b")
    person = Person()
    outcome = review(desk, recipe, run_id, person)
    assert (outcome.num_done, outcome.num_open, outcome.timed_out) == (2, 0, False)
    assert person.address == url_of(desk)
    found = run_of(desk, "review")
    assert (found["status"], found["num_images"], found["recipe"]) == ("done", 2, "quick")


def test_where_nobody_came_the_review_and_its_assist_have_failed(
    desk: Workspace, recipe: Recipe
) -> None:
    run_id = asked(desk, "a", "b")
    with pytest.raises(StageError, match="nobody reviewed an image before the deadline; run the"):
        review(desk, recipe, run_id, Person(patience=0), hours=0)
    found = [run_of(desk, stage) for stage in ("assist", "review")]
    assert [run["status"] for run in found] == ["failed", "failed"]
    assert all("nobody reviewed" in run["detail"] for run in found)
    assert desk.queue.counts()["ready"] == 0


def test_what_was_done_by_the_deadline_is_enough(desk: Workspace, recipe: Recipe) -> None:
    run_id = asked(desk, "a", "b", "c")
    person = Person(patience=1)
    # Looked at once before the deadline and once after.
    outcome = review(desk, recipe, run_id, person, hours=0.0001)
    assert (outcome.num_done, outcome.timed_out) == (1, True)
    assert [run_of(desk, stage)["status"] for stage in ("assist", "review")] == ["done", "done"]
    assert person.notes[-1] == "deadline passed: 2 images go back unseen"
    assert desk.queue.counts()["ready"] == 0


class Stopping(Silent):
    """A user who presses Ctrl+C while people are waited for."""

    def step(self, *_: object) -> None:
        raise KeyboardInterrupt


def test_a_review_that_is_stopped_has_failed_and_its_items_wait(
    desk: Workspace, recipe: Recipe
) -> None:
    run_id = asked(desk, "a")
    with pytest.raises(KeyboardInterrupt):
        review(desk, recipe, run_id, Stopping())
    assert run_of(desk, "review")["status"] == "failed"
    assert run_of(desk, "assist")["status"] == "done"
    assert review(desk, recipe, run_id, Person()).num_done == 1


def test_a_review_whose_process_died_is_closed_by_the_next(desk: Workspace, recipe: Recipe) -> None:
    dead = start_run(desk, new_run("review"))
    review(desk, recipe, asked(desk, "a"), Person())
    [run] = desk.lake.rows("SELECT status FROM runs WHERE run_id = ?", (dead,))
    assert run["status"] == "failed"


@pytest.mark.parametrize("priority", [9.0, -9.0], ids=["served first", "served last"])
def test_items_that_waited_before_are_a_part_of_the_turn(
    desk: Workspace, recipe: Recipe, priority: float
) -> None:
    asked(desk, "old", turn=ALONE)
    assert answered_alone(desk)
    asked(desk, "older", "old and answered", turn=ALONE, priority=priority)
    assert answered_alone(desk)
    run_id = asked(desk, "new")
    person = Person()
    outcome = review(desk, recipe, run_id, person)
    # What was answered before the turn began is not its work.
    assert (outcome.num_done, outcome.num_open) == (2, 0)
    assert person.notes[0] == "1 images that waited before are part of this turn"
    assert desk.queue.open_images() == set()


def answered_alone(desk: Workspace) -> bool:
    with annotator_server(desk) as url:
        return answer(url)


def test_items_that_come_while_people_work_are_the_next_turns(
    desk: Workspace, recipe: Recipe
) -> None:
    class Colleague(Person):
        def note(self, text: str) -> None:
            super().note(text)
            asked(desk, "late", turn=ALONE, priority=-9.0)

    assert review(desk, recipe, asked(desk, "new"), Colleague(patience=1)).num_done == 1
    assert desk.queue.open_images() == {"late"}


def test_a_server_that_has_the_queue_already_is_used(desk: Workspace, recipe: Recipe) -> None:
    # As `maskloop serve` does it, from its own handles on the workspace.
    served = at_port(open_workspace(desk.root), desk.settings.annotator.port)
    person = Person()
    with annotator_server(served, port=desk.settings.annotator.port):
        outcome = review(desk, recipe, asked(desk, "a", "b"), person)
        assert not answer(url_of(desk)), "it goes on serving"
    assert outcome.num_done == 2
    assert person.address == url_of(desk)
    assert "served already" in person.notes[0]


@contextmanager
def another_queue(desk: Workspace, empty: Path) -> Iterator[None]:
    other = at_port(open_workspace(empty), desk.settings.annotator.port)
    with annotator_server(other, port=desk.settings.annotator.port):
        yield


@contextmanager
def another_program(desk: Workspace, empty: Path) -> Iterator[None]:  # noqa: ARG001 -- as above
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer((HOST, desk.settings.annotator.port), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("occupied", [another_queue, another_program])
def test_a_port_that_another_has_is_one_line_with_the_remedy(
    desk: Workspace,
    empty_root: Path,
    recipe: Recipe,
    occupied: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    port = desk.settings.annotator.port
    run_id = asked(desk, "a")
    with occupied(desk, empty_root), pytest.raises(StageError) as raised:
        review(desk, recipe, run_id, Person())
    assert str(raised.value) == (
        f"annotator: cannot listen on {HOST}:{port} (Address already in use); end what listens "
        "there, or change annotator.port in maskloop.toml"
    )
    assert capfd.readouterr().err == ""
    assert desk.queue.counts()["ready"] == 1
    assert run_of(desk, "review")["status"] == "failed"


class Killer(Silent):
    """Kills the simulated annotator as soon as it is there, as a machine without memory does."""

    def step(self, what: str, done: int, total: int) -> None:  # noqa: ARG002 -- Progress's own
        for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            for child in children.read_text().split():
                if "annotate" in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                    os.kill(int(child), signal.SIGKILL)


def simulated(
    workspace: Workspace, recipe: Recipe, truth: Path, progress: Any, hours: float
) -> Any:
    config = LoopConfig(annotate="simulated", truth=truth, deadline_s=hours * 3600)
    run_id = asked(workspace, "a")
    return review_stage(workspace, recipe, config, progress, turn=TURN, run_id=run_id)


def test_a_simulated_annotator_that_was_killed_is_no_missed_deadline(
    desk: Workspace, recipe: Recipe, drawn: Any
) -> None:
    with pytest.raises(StageError, match=r"simulated annotator: ended by signal 9 \(Killed\)"):
        simulated(desk, recipe, drawn.truth, Killer(), hours=1)
    assert desk.queue.counts()["ready"] == 1
    assert run_of(desk, "assist")["status"] == "done"


def test_a_simulated_annotator_that_is_too_slow_misses_the_deadline(
    desk: Workspace, recipe: Recipe, drawn: Any
) -> None:
    with pytest.raises(StageError, match="nobody reviewed an image before the deadline"):
        simulated(desk, recipe, drawn.truth, Silent(), hours=0)
    assert run_of(desk, "assist")["status"] == "failed"


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen(HOST, 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
