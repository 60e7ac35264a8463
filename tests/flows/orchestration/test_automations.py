"""What `maskloop serve` sets up at a Prefect server: once each, whoever starts it."""

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.models.serving import device
from flows.orchestration.automations import CRASHED, keep_automations
from flows.orchestration.limits import make_training_limit, training_slot
from flows.orchestration.names import training_limit
from flows.progress import Silent
from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
IDS = {"turn": uuid4(), "refresh": uuid4()}
HERE, THERE = Path("/here/masks"), Path("/there/masks")


@pytest.fixture
def client(foreign_prefect: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: foreign_prefect}),
        get_client(sync_client=True) as opened,
    ):
        yield opened
        for automation in opened.read_automations():
            opened.delete_automation(automation.id)


@pytest.fixture
def new_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process asks for a limit at the server where it first asked for one of that name."""
    name = f"machine-{uuid4().hex[:8]}"
    monkeypatch.setattr(platform, "node", lambda: name)


def found(client: SyncPrefectClient) -> dict[str, Any]:
    """Automations by name, of which there is one of each."""
    everything = client.request("POST", "/automations/filter", json={}).json()
    by_name = {item["name"]: item for item in everything}
    assert len(by_name) == len(everything)
    return by_name


def test_starting_again_changes_nothing(client: SyncPrefectClient) -> None:
    keep_automations(client, HERE, "masks-1", IDS)
    first = found(client)
    assert len(first) == 3
    keep_automations(client, HERE, "masks-1", IDS)
    assert found(client) == first, "not even when it was updated"


def test_workspaces_share_what_marks_crashed_runs(client: SyncPrefectClient) -> None:
    keep_automations(client, HERE, "masks-1", IDS)
    keep_automations(client, THERE, "masks-2", IDS)
    names = found(client)
    assert len(names) == 5
    assert CRASHED in names
    resources = {
        str(item["trigger"]["match"]) for name, item in names.items() if "batch.done" in name
    }
    assert len(resources) == 2, "each hears of its own workspace"


def test_what_was_changed_or_doubled_is_put_right(client: SyncPrefectClient) -> None:
    keep_automations(client, HERE, "masks-1", IDS)
    [crashed] = client.read_automations_by_name(CRASHED)
    client.create_automation(AutomationCore.model_validate(crashed.model_dump()))
    keep_automations(client, HERE, "masks-1", {**IDS, "turn": (anew := uuid4())})
    [turn] = [item for name, item in found(client).items() if "turn/masks-1" in name]
    assert turn["actions"][0]["deployment_id"] == str(anew)


def test_what_is_switched_off_stays_off(client: SyncPrefectClient) -> None:
    keep_automations(client, HERE, "masks-1", IDS)
    [crashed] = client.read_automations_by_name(CRASHED)
    client.pause_automation(crashed.id)
    keep_automations(client, HERE, "masks-1", IDS)
    assert not found(client)[CRASHED]["enabled"]


class Told(Silent):
    """Ends the wait that it hears of."""

    def __init__(self, client: SyncPrefectClient, name: str) -> None:
        self._client, self._name = client, name
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._client.delete_global_concurrency_limit_by_name(self._name)


@pytest.mark.usefixtures("client", "new_machine")
def test_no_limit_is_no_obstacle(workspace: Workspace) -> None:
    with training_slot(workspace, Silent()):
        pass


@pytest.mark.usefixtures("new_machine")
def test_one_training_a_device(client: SyncPrefectClient, workspace: Workspace) -> None:
    name = training_limit(device(workspace))
    make_training_limit(client, workspace, nobody_trains=False)
    with training_slot(workspace, Silent()):
        assert client.read_global_concurrency_limit_by_name(name).active_slots == 1
        make_training_limit(client, workspace, nobody_trains=False)
        told = Told(client, name)
        with training_slot(workspace, told):
            assert told.notes == [f"another training has {name}; this one waits for it"]


def test_the_slot_of_a_killed_training_is_free_where_nobody_trains(
    client: SyncPrefectClient, workspace: Workspace
) -> None:
    name = training_limit(device(workspace))
    make_training_limit(client, workspace, nobody_trains=False)
    client.request(
        "POST",
        "/v2/concurrency_limits/increment-with-lease",
        json={"names": [name], "slots": 1, "mode": "concurrency", "lease_duration": 60},
    )
    assert client.read_global_concurrency_limit_by_name(name).active_slots == 1
    make_training_limit(client, workspace, nobody_trains=True)
    assert client.read_global_concurrency_limit_by_name(name).active_slots == 0
    client.delete_global_concurrency_limit_by_name(name)
