"""`maskloop annotators`: people are let in, and each mistake is one line with its remedy."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from flows.workspace import Workspace
from storage.queue.people import Identity, People

Cli = Callable[..., Any]


@pytest.fixture
def listed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> People:
    """The people of an empty workspace, which commands find by MASKLOOP_HOME."""
    monkeypatch.setenv("MASKLOOP_HOME", str(workspace.root))
    return People(workspace.queue.database)


def token_in(text: str) -> str:
    """The token that was printed, by itself and as a link."""
    shown = re.findall(r"mlp_[A-Za-z0-9_-]{43}", text)
    assert len(shown) == 2, text
    assert shown[0] == shown[1]
    assert f"http://127.0.0.1:8765/sign-in#{shown[0]}" in text
    return str(shown[0])


def test_somebody_is_let_in_and_told_once_how(cli: Cli, listed: People) -> None:
    said = cli("annotators", "add", "ada")
    assert said.code == 0
    assert "shown once" in said.out
    assert "MASKLOOP_TOKEN" in said.out
    assert listed.of_token(token_in(said.out)) == Identity(name="ada", role="annotator")
    assert said.errors == [
        "From now on everybody signs in, also where a maskloop serve runs already."
    ]
    again = cli("annotators", "add", "Zoë O. 2", "--role", "lead")
    assert listed.of_token(token_in(again.out)) == Identity(name="Zoë O. 2", role="lead")
    assert again.errors == []


def test_the_list_has_no_secrets(cli: Cli, listed: People) -> None:
    token = token_in(cli("annotators", "add", "ada").out)
    cli("annotators", "add", "bob", "--role", "lead")
    cli("annotators", "revoke", "bob")
    said = cli("annotators", "list", "--json")
    ada, bob = json.loads(said.out)
    assert ada.keys() == {"name", "role", "added", "revoked", "sessions"}
    assert (ada["name"], ada["role"], ada["revoked"], ada["sessions"]) == (
        "ada",
        "annotator",
        None,
        0,
    )
    assert bob["revoked"] is not None
    table = cli("annotators", "list").out
    assert "ada" in table
    assert token not in table + said.out
    assert len(listed.everybody()) == 2


def test_an_empty_list_says_so(cli: Cli, listed: People) -> None:
    assert cli("annotators", "list").out == "(no rows)\n"
    assert json.loads(cli("annotators", "list", "--json").out) == []
    assert listed.everybody() == []


def test_a_new_token_replaces_the_old_one_and_lets_in_again(cli: Cli, listed: People) -> None:
    old = token_in(cli("annotators", "add", "ada").out)
    said = cli("annotators", "revoke", "ada")
    assert (said.code, said.out) == (
        0,
        "ada is let in no more; what they have done stays\n",
    )
    assert listed.of_token(old) is None
    new = token_in(cli("annotators", "renew", "ada").out)
    assert listed.of_token(old) is None
    assert listed.of_token(new) == Identity(name="ada", role="annotator")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("add", "ada"), "annotators add: ada: is there already, and signed work stays"),
        (("add", ""), "annotators add: name: must be letters, digits"),
        (("add", "a/b"), "annotators add: name: must be letters, digits"),
        (("add", "x" * 65), "and 64 of them at most"),
        (("add", "bob", "--role", "owner"), "--role: must be annotator or lead, but got 'owner'"),
        (("renew", "bob"), "annotators renew: bob: nobody was added under this name; see: "),
        (("revoke", "bob"), "annotators revoke: bob: nobody was added under this name; see: "),
    ],
)
def test_a_mistake_is_one_line(
    cli: Cli, listed: People, words: tuple[str, ...], message: str
) -> None:
    listed.add("ada")
    said = cli("annotators", *words)
    assert said.code == 2
    [line] = said.errors
    assert line.startswith("error: ")
    assert message in line
    assert said.out == ""
    assert [person.name for person in listed.everybody()] == ["ada"]
