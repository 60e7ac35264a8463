"""Where the annotator may listen, under which names, and that nobody reaches it unguarded."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.annotating import doors
from flows.annotating.lent_tokens import lent_token
from flows.annotating.people import annotator_server
from flows.errors import UsageError
from flows.processes import supervisor
from flows.processes.prefect_server import free_port
from flows.progress import Silent
from flows.recipes import Recipe
from flows.runs import Turn, new_run, start_run
from flows.settings import AnnotatorSettings
from flows.turns.loop import LoopConfig, review_stage, run_loop
from flows.workspace import Workspace, open_workspace
from storage.queue.items import NewItem
from storage.queue.people import People
from storage.queue.sessions import Sessions

# None of them is reached.
NO_STAGES: Any = None
TURN = Turn(iteration=1, parent_run_id="loop", recipe="quick")


def listening(workspace: Workspace, **changes: Any) -> Workspace:
    """The workspace with other settings of its annotator."""
    annotator = replace(workspace.settings.annotator, **changes)
    return replace(workspace, settings=replace(workspace.settings, annotator=annotator))


@pytest.fixture
def listed(workspace: Workspace) -> People:
    return People(workspace.queue.database)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("labels.example", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert doors.is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "allowed", "names", "url"),
    [
        ("127.0.0.1", (), set(), "http://127.0.0.1:8765"),
        ("::1", (), set(), "http://[::1]:8765"),
        ("10.1.2.3", (), {"10.1.2.3"}, "http://10.1.2.3:8765"),
        ("Labels.example", (), {"labels.example"}, "http://Labels.example:8765"),
        ("0.0.0.0", ("Labels.Example", "10.1.2.3"), {"labels.example", "10.1.2.3"},
         "http://Labels.Example:8765"),
        ("::", ("[2001:db8::1]",), {"[2001:db8::1]"}, "http://[2001:db8::1]:8765"),
    ],
)  # fmt: skip
def test_names_and_addresses(
    host: str, allowed: tuple[str, ...], names: set[str], url: str
) -> None:
    settings = AnnotatorSettings(host=host, allowed_hosts=allowed)
    assert set(doors.allowed_hosts(settings)) == {"localhost", "127.0.0.1", "[::1]"} | names
    assert doors.public_url(settings) == url


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "labels.example"])
def test_nobody_listens_beyond_loopback_without_people(
    workspace: Workspace, listed: People, recipe: Recipe, host: str
) -> None:
    beyond = listening(workspace, host=host, port=free_port(), allowed_hosts=("labels.example",))
    remedy = f"^annotator.host: other machines reach {host}, .*run: maskloop annotators add NAME"
    with pytest.raises(UsageError, match=remedy), annotator_server(beyond):
        pass
    with pytest.raises(UsageError, match=remedy):
        supervisor.serve(beyond, tell=print)
    with pytest.raises(UsageError, match=remedy):
        run_loop(beyond, recipe, LoopConfig(), NO_STAGES, Silent())
    listed.add("ada")
    listed.revoke("ada")
    with pytest.raises(UsageError, match=remedy), annotator_server(beyond):
        pass


def test_every_address_of_a_machine_needs_a_name_of_it(
    workspace: Workspace, listed: People
) -> None:
    listed.add("ada")
    with (
        pytest.raises(UsageError, match=r"^annotator\.allowed_hosts: must name this machine"),
        annotator_server(listening(workspace, host="0.0.0.0")),
    ):
        pass


def test_with_people_it_listens_and_asks_who_comes(workspace: Workspace, listed: People) -> None:
    token = listed.add("ada")
    beyond = listening(workspace, host="0.0.0.0", allowed_hosts=("labels.example",))
    with annotator_server(beyond) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert url.startswith("http://127.0.0.1:")
        named = {"Host": "labels.example"}
        assert client.get("/api/progress", headers=named).status_code == 401
        named["Authorization"] = f"Bearer {token}"
        assert client.get("/api/progress", headers=named).status_code == 200
        named["Host"] = "evil.example"
        assert client.get("/api/progress", headers=named).status_code == 400


def test_categories_reach_the_page(workspace: Workspace) -> None:
    project = replace(workspace.settings.project, categories=("cell",))
    named = replace(workspace, settings=replace(workspace.settings, project=project))
    with annotator_server(named) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/api/session").json()["categories"] == ["cell"]


def test_a_token_is_lent_for_as_long_as_it_is_needed(workspace: Workspace, listed: People) -> None:
    sessions = Sessions(workspace.queue.database)
    with lent_token(workspace, "simulated", seconds=60) as token:
        assert token is None, "nobody signs in"
    assert not listed.any_added()
    listed.add("ada")
    with lent_token(workspace, "simulated", seconds=60) as token:
        assert token is not None
        assert sessions.find(token) is not None
    assert sessions.find(token) is None
    listed.revoke("simulated")
    with (
        pytest.raises(UsageError, match=r"simulated: was revoked; .*annotators renew simulated"),
        lent_token(workspace, "simulated", seconds=60),
    ):
        pass


class Spy(Silent):
    """Looks at the processes that a review has started."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.tokens: set[str] = set()

    def step(self, *_: object) -> None:
        for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            for child in children.read_text().split():
                self.look(Path("/proc") / child)

    def look(self, process: Path) -> None:
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
            environment = (process / "environ").read_text().split("\0")
        except OSError:
            return
        self.commands.append(command)
        if " annotate " in command:
            prefix = "MASKLOOP_TOKEN="
            self.tokens |= {one.removeprefix(prefix) for one in environment if prefix in one}


def queued(workspace: Workspace, name: str) -> str:
    """An item of an image whose annotation takes no model: it has no object in the truth."""
    run_id = start_run(workspace, new_run("assist", turn=TURN))
    [row] = workspace.lake.rows("SELECT * FROM images WHERE file_name = ?", (name,))
    kept = ("image_id", "file_name", "height", "width")
    workspace.queue.enqueue(
        [
            NewItem(
                **{key: row[key] for key in kept},
                model_version="v1",
                run_id=run_id,
                iteration=1,
                payload={"proposals": []},
            )
        ]
    )
    return run_id


@pytest.fixture
def truth(drawn: Any, tmp_path: Path) -> Path:
    """The drawn images without any object."""
    path = tmp_path / "nothing.json"
    path.write_text(json.dumps({**drawn.document, "annotations": []}))
    return path


def test_a_simulated_review_works_where_people_sign_in(
    filled: Workspace, recipe: Recipe, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = People(filled.queue.database)
    people.add("ada", "lead")
    monkeypatch.setenv("MASKLOOP_TOKEN", "mlp_of-another-workspace")
    # Wherever the configured server would listen: this one is for our own process.
    beyond = listening(filled, host="0.0.0.0")
    run_id = queued(filled, "scene-05.png")
    spy = Spy()
    config = LoopConfig(annotate="simulated", truth=truth, deadline_s=300)
    outcome = review_stage(beyond, recipe, config, spy, turn=TURN, run_id=run_id)
    assert (outcome.num_done, outcome.num_open) == (1, 0)
    [stored] = filled.queue.submissions_after(0)
    assert stored.annotator == "simulated"
    assert {token[:4] for token in spy.tokens} == {"mls_"}
    [token] = spy.tokens
    assert not any(token in command for command in spy.commands)
    assert Sessions(filled.queue.database).find(token) is None, "it ended with the review"


def test_a_server_that_has_the_queue_is_found_where_people_sign_in(
    workspace: Workspace, recipe: Recipe
) -> None:
    People(workspace.queue.database).add("ada")
    desk = listening(workspace, port=free_port())
    run_id = start_run(desk, new_run("assist", turn=TURN))
    notes: list[str] = []

    class Reader(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    item = NewItem(
        image_id="a", file_name="a", height=9, width=9, model_version="v1", run_id=run_id,
        iteration=1,
    )  # fmt: skip
    desk.queue.enqueue([item])
    lease = desk.queue.claim("ada")
    assert lease is not None
    desk.queue.submit(lease.item.item_id, lease.lease_token, "ada", "key", {})
    served = listening(open_workspace(desk.root), port=desk.settings.annotator.port)
    with annotator_server(served, port=desk.settings.annotator.port):
        review_stage(desk, recipe, LoopConfig(), Reader(), turn=TURN, run_id=run_id)
    assert any("served already" in note for note in notes)
