"""`maskloop pin` and `unpin`: by name or id, all that are named or none."""

import getpass
import json
from collections.abc import Callable
from typing import Any

import pytest

from flows.workspace import Workspace
from storage.queue.items import NewItem

Cli = Callable[..., Any]


@pytest.fixture
def images(at_home: Workspace) -> list[dict[str, Any]]:
    """Images that may be handed out, by name; the first of them waits in the queue."""
    rows: list[dict[str, Any]] = at_home.lake.rows(
        "SELECT image_id, file_name FROM images WHERE split <> 'gold' ORDER BY file_name"
    )
    values = {"height": 1, "width": 1, "model_version": "v1", "run_id": "r", "iteration": 1}
    at_home.queue.enqueue(
        NewItem(image_id=row["image_id"], file_name=row["file_name"], priority=-place, **values)
        for place, row in enumerate([rows[1], rows[0]])
    )
    return rows


def front(workspace: Workspace) -> str:
    return workspace.queue.ready_items(["assist"])[0].image_id


def test_images_are_pinned_by_name_and_by_id(
    cli: Cli, at_home: Workspace, images: list[dict[str, Any]]
) -> None:
    first, _, third = images[:3]
    said = cli("pin", first["file_name"], third["image_id"], first["image_id"])
    assert (said.code, said.err) == (0, "")
    assert said.out == "2 images pinned; 1 of those named wait for people now\n"
    assert front(at_home) == first["image_id"]
    assert {pin.pinned_by for pin in at_home.queue.pins()} == {getpass.getuser()}
    again = cli("pin", third["file_name"], "--by", "dee", "--json")
    assert json.loads(again.out) == {"num_changed": 0, "num_waiting": 0}


def test_what_is_pinned_is_listed(cli: Cli, images: list[dict[str, Any]]) -> None:
    assert cli("pin", "--list").out == "(no rows)\n"
    cli("pin", images[2]["file_name"], "--by", "dee")
    cli("pin", images[0]["file_name"], "--by", "eve")
    rows = json.loads(cli("pin", "--list", "--json").out)
    assert [row.pop("pinned_at")[:2] for row in rows] == ["20", "20"]
    assert rows == [
        {**images[2], "pinned_by": "dee", "waits": False},
        {**images[0], "pinned_by": "eve", "waits": True},
    ]
    assert images[2]["file_name"] in cli("pin", "--list").out


def test_unpinning_gives_the_place_back(
    cli: Cli, at_home: Workspace, images: list[dict[str, Any]]
) -> None:
    cli("pin", images[0]["file_name"])
    said = cli("unpin", images[0]["image_id"], images[1]["file_name"])
    assert said.out == "1 images no longer pinned; 2 of those named wait for people now\n"
    assert (front(at_home), at_home.queue.pins()) == (images[1]["image_id"], [])


@pytest.mark.parametrize("command", ["pin", "unpin"])
def test_unknown_images_are_named_and_nothing_happens(
    cli: Cli, at_home: Workspace, images: list[dict[str, Any]], command: str
) -> None:
    at_home.queue.pin([images[1]["image_id"]], "dee")
    before = at_home.queue.pins()
    said = cli(command, images[0]["file_name"], images[1]["image_id"], "no.png", "a'; --")
    assert said.code == 2
    [line] = said.errors
    unknown, remedy = line.split(": no image of the store has this id or file name; ")
    assert unknown == f"""error: {command}: 'no.png', "a'; --\""""
    assert remedy.endswith('maskloop sql "SELECT image_id, file_name FROM images"')
    assert at_home.queue.pins() == before
    many = cli(command, *(f"no-{number}" for number in range(8)))
    assert "'no-4' and 3 more: no image" in many.err


def test_the_gold_set_is_not_handed_out(
    cli: Cli, at_home: Workspace, images: list[dict[str, Any]]
) -> None:
    said = cli("pin", images[0]["file_name"], "scene-01.png")
    assert said.code == 2
    assert said.errors[0].startswith("error: pin: 'scene-01.png': of the gold set")
    assert at_home.queue.pins() == []


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pin"], "pin: needs an IMAGE or --list"),
        (["unpin"], "unpin: needs an IMAGE"),
        (["pin", "--list", "x.png"], "pin --list: takes no IMAGE"),
        (["pin", "--list", "--by", "dee"], "pin --list: takes no IMAGE and no --by"),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(
    cli: Cli, arguments: list[str], words: str
) -> None:
    said = cli(*arguments)
    assert said.code == 2
    assert words in said.err


def test_whose_wish_it_is_must_be_a_name(cli: Cli, images: list[dict[str, Any]]) -> None:
    said = cli("pin", images[0]["file_name"], "--by", "a\nb")
    assert said.code == 2
    assert "pin: by: must be 1 to 200 printable characters" in said.err
