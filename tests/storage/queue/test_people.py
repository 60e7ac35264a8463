"""Who may work, and for how long what they show is good."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage.queue.database import Database
from storage.queue.errors import NameTaken, UnknownPerson
from storage.queue.people import Identity, People
from storage.queue.review import ReviewQueue
from storage.queue.sessions import IDLE_S, LONGEST_S, Opened, Sessions

HOUR_S = 3600.0


@pytest.fixture
def list_of(queue: ReviewQueue) -> People:
    return People(queue.database)


@pytest.fixture
def sessions(queue: ReviewQueue) -> Sessions:
    return Sessions(queue.database)


@pytest.fixture
def opened(list_of: People, sessions: Sessions) -> Opened:
    """Ada's session."""
    found = sessions.sign_in(list_of.add("ada"))
    assert found is not None
    return found


@pytest.fixture
def stored(queue: ReviewQueue) -> Callable[[], str]:
    """Every word of the two tables."""

    def read() -> str:
        with queue.database.read() as connection:
            rows = [
                connection.exec_driver_sql(f"SELECT * FROM {table}").all()
                for table in ("people", "sessions")
            ]
        return str(rows)

    return read


def test_a_token_is_long_and_says_what_it_is_and_only_its_hash_is_kept(
    list_of: People, sessions: Sessions, stored: Callable[[], str]
) -> None:
    token = list_of.add("ada")
    assert re.fullmatch(r"mlp_[A-Za-z0-9_-]{43}", token), "43 letters are 256 bits"
    found = sessions.sign_in(token)
    assert found is not None
    assert token not in stored()
    assert found.secret not in stored()


def test_a_token_is_its_owners(list_of: People) -> None:
    ada, bob = list_of.add("ada"), list_of.add("bob", "lead")
    assert ada != bob
    assert list_of.of_token(ada) == Identity(name="ada", role="annotator")
    assert list_of.of_token(bob) == Identity(name="bob", role="lead")


@pytest.mark.parametrize("token", ["", "mlp_", "x", "\ud800", "mlp_" + "A" * 43, "ä" * 10_000])
def test_what_is_nobodys_token_is_nobody(list_of: People, sessions: Sessions, token: str) -> None:
    list_of.add("ada")
    assert list_of.of_token(token) is None
    assert sessions.sign_in(token) is None
    assert sessions.find(token) is None


def test_a_token_is_compared_whole(list_of: People) -> None:
    token = list_of.add("ada")
    assert list_of.of_token(token[:-1]) is None
    assert list_of.of_token(token + " ") is None
    assert list_of.of_token(token.swapcase()) is None


def test_a_name_is_given_once_whatever_became_of_its_owner(list_of: People) -> None:
    list_of.add("ada")
    list_of.revoke("ada")
    with pytest.raises(NameTaken, match=r"^ada: is there already"):
        list_of.add("ada")


@pytest.mark.parametrize(("name", "role"), [("", "lead"), ("a\nb", "lead"), ("ada", "owner")])
def test_what_is_no_name_or_role_is_refused(list_of: People, name: str, role: Any) -> None:
    with pytest.raises(ValueError, match=r"^(name|role): must be"):
        list_of.add(name, role)
    assert not list_of.any_added()


def test_the_list_tells_all(list_of: People, sessions: Sessions, clock: Any) -> None:
    added = clock.seconds
    assert not list_of.any_added()
    sessions.sign_in(list_of.add("bob"))
    list_of.add("ada", "lead")
    clock.move(60)
    list_of.revoke("ada")
    ada, bob = list_of.everybody()
    assert (ada.name, ada.role, bob.name, bob.role) == ("ada", "lead", "bob", "annotator")
    assert (ada.created_at.timestamp(), bob.created_at.timestamp()) == (added, added)
    assert ada.revoked_at is not None
    assert ada.revoked_at.timestamp() == added + 60
    assert (bob.revoked_at, ada.num_sessions, bob.num_sessions) == (None, 0, 1)
    clock.move(IDLE_S)
    assert [person.num_sessions for person in list_of.everybody()] == [0, 0]


def test_whoever_is_revoked_is_out_at_once(list_of: People, sessions: Sessions, clock: Any) -> None:
    token = list_of.add("ada")
    again = sessions.sign_in(token)
    assert again is not None
    list_of.revoke("ada")
    assert list_of.of_token(token) is None
    assert sessions.use(again.secret) is None
    assert sessions.sign_in(token) is None
    assert list_of.any_added(), "sign-in stays"
    assert not list_of.any_admitted()
    first = list_of.everybody()[0].revoked_at
    clock.move(60)
    list_of.revoke("ada")
    assert list_of.everybody()[0].revoked_at == first


def test_a_new_token_ends_the_old_one_and_its_sessions(
    list_of: People, sessions: Sessions, opened: Opened
) -> None:
    old = list_of.renew("ada")
    assert sessions.use(opened.secret) is None
    new = list_of.renew("ada")
    assert list_of.of_token(old) is None
    assert list_of.of_token(new) == Identity(name="ada", role="annotator")
    list_of.revoke("ada")
    assert list_of.of_token(list_of.renew("ada")) is not None, "and lets in again"


@pytest.mark.parametrize("change", ["renew", "revoke"])
def test_nobody_cannot_be_changed(list_of: People, change: str) -> None:
    with pytest.raises(UnknownPerson, match=r"^ada: nobody was added"):
        getattr(list_of, change)("ada")


def test_a_session_is_its_owners_and_another_one_each_time(
    list_of: People, sessions: Sessions
) -> None:
    token = list_of.add("ada", "lead")
    first, second = sessions.sign_in(token), sessions.sign_in(token)
    assert first is not None
    assert second is not None
    assert first.secret != second.secret
    assert first.session.csrf_token != second.session.csrf_token
    assert sessions.use(first.secret) == first.session
    assert (first.session.name, first.session.role) == ("ada", "lead")
    assert sessions.use(first.secret[:-1]) is None
    assert sessions.use(token) is None, "a token is no session"


def test_a_session_that_is_ended_is_no_more_and_others_go_on(
    list_of: People, sessions: Sessions, opened: Opened
) -> None:
    other = sessions.sign_in(list_of.add("bob"))
    assert other is not None
    sessions.end(opened.secret)
    sessions.end(opened.secret)
    assert sessions.use(opened.secret) is None
    assert sessions.use(other.secret) is not None


def test_a_session_ends_unused(sessions: Sessions, opened: Opened, clock: Any) -> None:
    clock.move(IDLE_S - 1)
    assert sessions.find(opened.secret) is not None
    clock.move(1)
    assert sessions.find(opened.secret) is None


def test_a_session_in_use_goes_on_but_not_for_ever(
    sessions: Sessions, opened: Opened, clock: Any
) -> None:
    for _ in range(int(LONGEST_S / (11 * HOUR_S))):
        clock.move(11 * HOUR_S)
        assert sessions.use(opened.secret) is not None
    clock.move(LONGEST_S % (11 * HOUR_S))
    assert sessions.use(opened.secret) is None


def test_looking_does_not_count_as_use(sessions: Sessions, opened: Opened, clock: Any) -> None:
    clock.move(IDLE_S - 1)
    sessions.find(opened.secret)
    clock.move(2)
    assert sessions.use(opened.secret) is None


def test_a_clock_that_is_put_back_lets_nobody_in_longer(
    sessions: Sessions, opened: Opened, clock: Any
) -> None:
    clock.move(-HOUR_S)
    assert sessions.use(opened.secret) is not None
    clock.move(HOUR_S + IDLE_S)
    assert sessions.use(opened.secret) is None


def test_using_a_session_seldom_writes(
    sessions: Sessions, opened: Opened, clock: Any, stored: Callable[[], str]
) -> None:
    before = stored()
    clock.move(300)
    sessions.use(opened.secret)
    assert stored() == before
    clock.move(600)
    sessions.use(opened.secret)
    assert stored() != before


def test_a_session_is_good_while_nothing_can_be_written(clock: Any, tmp_path: Path) -> None:
    file = tmp_path / "busy.sqlite"
    impatient = Database.open(f"sqlite:///{file}", clock=clock, busy_timeout_s=0.05)
    opened = Sessions(impatient).sign_in(People(impatient).add("ada"))
    assert opened is not None
    clock.move(HOUR_S)
    with closing(sqlite3.connect(file, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        assert Sessions(impatient).use(opened.secret) is not None
        blocker.execute("ROLLBACK")
    impatient.close()


@pytest.mark.usefixtures("opened")
def test_sessions_that_have_ended_are_swept(
    list_of: People, sessions: Sessions, clock: Any, stored: Callable[[], str]
) -> None:
    assert "'ada'" in stored().partition("], [")[2]
    clock.move(IDLE_S)
    sessions.sign_in(list_of.add("bob"))
    assert "'ada'" not in stored().partition("], [")[2]


def test_a_program_of_ours_is_lent_a_session(
    list_of: People, sessions: Sessions, clock: Any
) -> None:
    secret = sessions.lend("simulated", 90.0)
    session = sessions.find(secret)
    assert session is not None
    assert (session.name, session.role) == ("simulated", "annotator")
    assert [person.name for person in list_of.everybody()] == ["simulated"]
    clock.move(90)
    assert sessions.find(secret) is None
    assert sessions.lend("simulated", 90.0) != secret
    list_of.revoke("simulated")
    with pytest.raises(UnknownPerson, match="simulated: was revoked"):
        sessions.lend("simulated", 90.0)
