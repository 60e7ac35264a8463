"""Signing in and out, by cookie and by token: who is let in, and every way not to be."""

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import Connection

from annotator.app import create_app
from annotator.config import AnnotatorConfig
from storage.queue.database import DatabaseClock
from storage.queue.sessions import IDLE_S, LONGEST_S

# What strangers may ask: who is signed in, and whether the server works.
FOR_STRANGERS = {"/api/session", "/api/health"}


class MovedClock(DatabaseClock):
    """The database's clock, moved on by hand."""

    ahead_s = 0.0

    def now(self, connection: Connection) -> float:
        return super().now(connection) + self.ahead_s


@pytest.fixture
def clock(desk: Any) -> MovedClock:
    desk.queue.database._clock = moved = MovedClock()
    return moved


def refused(answer: httpx.Response, status: int, error: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "message", "remedy"}
    assert answer.json()["error"] == error
    return str(answer.json()["message"])


def lease(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/api/lease", json=body)


class TestOpen:
    """While nobody was added, all may do all, and say who they are."""

    def test_everybody_is_a_lead_without_a_name(self, api: httpx.Client) -> None:
        assert api.get("/api/session").json() == {
            "name": None,
            "role": "lead",
            "csrf_token": None,
            "sign_in_required": False,
            "categories": [],
        }
        assert api.get("/api/lead/overview").status_code == 200

    def test_whoever_works_says_who_they_are(self, api: httpx.Client) -> None:
        assert refused(lease(api), 422, "invalid").startswith("annotator: must say who works")
        assert lease(api, annotator="ada").status_code == 200

    def test_a_token_of_another_server_is_no_obstacle(self, api: httpx.Client) -> None:
        api.headers["Authorization"] = "Bearer mlp_of-another"
        assert lease(api, annotator="ada").status_code == 200

    def test_nobody_can_sign_in(self, api: httpx.Client) -> None:
        refused(api.post("/api/session", json={"token": "mlp_x"}), 401, "not_signed_in")
        assert api.delete("/api/session").status_code == 204

    def test_it_ends_with_the_first_person(self, team: Any) -> None:
        stranger = team.client({})
        assert lease(stranger, annotator="ada").status_code == 200
        team.people.add("bob")
        # That nobody was added is remembered for a second.
        deadline = time.monotonic() + 10
        while lease(stranger, annotator="ada").status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        refused(lease(stranger, annotator="ada"), 401, "not_signed_in")
        team.people.revoke("bob")
        refused(lease(stranger, annotator="ada"), 401, "not_signed_in")

    def test_a_server_that_others_reach_is_never_open(self, desk: Any) -> None:
        with desk.open(always_sign_in=True) as api:
            refused(lease(api, annotator="ada"), 401, "not_signed_in")

    def test_the_projects_categories_are_told(self, desk: Any) -> None:
        with desk.open(categories=("cell", "debris")) as api:
            assert api.get("/api/session").json()["categories"] == ["cell", "debris"]


@pytest.fixture
def strange(desk: Any) -> Iterator[httpx.Client]:
    """A stranger to a server that asks everybody to sign in."""
    with desk.open(always_sign_in=True) as client:
        yield client


def calls_of_the_api(desk: Any) -> list[tuple[str, str]]:
    """(method, path) of every call of the app itself, so that none can be forgotten."""
    app = create_app(
        queue=desk.queue, models=desk.models, images=desk.images, config=AnnotatorConfig()
    )
    return [
        (method, route.path)
        for route in iter_route_contexts(app.routes)
        if route.path and route.path.startswith("/api/") and route.path not in FOR_STRANGERS
        for method in sorted(route.methods or ())
    ]


def test_no_call_answers_a_stranger(strange: httpx.Client, desk: Any) -> None:
    calls = calls_of_the_api(desk)
    assert {path for _, path in calls} >= {"/api/lease", "/api/lead/overview", "/api/progress"}
    for method, path in calls:
        asked = re.sub(r"\{\w*image_id\}", desk.pictures[0].image_id, path)
        asked = re.sub(r"\{[^}]*\}", "0", asked)
        answer = strange.request(method, asked, json=None if method == "GET" else {})
        assert answer.status_code == 401, (method, path, answer.text)
        assert answer.json()["error"] == "not_signed_in"
    assert desk.queue.counts()["leased"] == 0


def test_strangers_learn_that_the_server_works_and_what_to_do(strange: httpx.Client) -> None:
    assert strange.get("/api/health").status_code == 200
    assert strange.get("/docs").status_code == 200
    answer = strange.get("/api/session")
    refused(answer, 401, "not_signed_in")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "maskloop annotators add" in answer.json()["remedy"]


class TestCookie:
    """A browser."""

    def test_it_signs_in_works_and_signs_out(self, team: Any) -> None:
        token = team.people.add("ada")
        browser = team.client({})
        answer = browser.post("/api/session", json={"token": token})
        csrf_token = answer.json()["csrf_token"]
        expected = {"name": "ada", "role": "annotator", "csrf_token": csrf_token}
        expected |= {"sign_in_required": True, "categories": []}
        assert answer.json() == expected
        assert browser.get("/api/session").json() == expected
        browser.headers["X-CSRF-Token"] = csrf_token
        assert lease(browser).json()["lease"] is not None
        [held] = team.desk.queue.holders()
        assert held.annotator == "ada"
        kept = dict(browser.cookies)
        assert browser.delete("/api/session").status_code == 204
        assert not browser.cookies
        again = team.client({"X-CSRF-Token": csrf_token})
        again.cookies.update(kept)
        refused(lease(again), 401, "not_signed_in")

    def test_no_script_and_no_other_site_can_use_the_cookie(self, team: Any) -> None:
        token = team.people.add("ada")
        answer = team.client({}).post("/api/session", json={"token": token})
        cookie = answer.headers["Set-Cookie"]
        name, *attributes = cookie.split("; ")
        assert set(attributes) == {
            "HttpOnly",
            "SameSite=strict",
            "Path=/",
            f"Max-Age={LONGEST_S:.0f}",
        }
        assert re.fullmatch(r"maskloop_session=mls_[A-Za-z0-9_-]{43}", name)
        assert token not in cookie
        assert answer.headers["Cache-Control"] == "no-store"

    def test_behind_https_it_stays_there(self, team: Any) -> None:
        browser = team.client({"X-Forwarded-Proto": "https"})
        answer = browser.post("/api/session", json={"token": team.people.add("ada")})
        assert "Secure" in answer.headers["Set-Cookie"]

    @pytest.mark.parametrize(
        "shown", [None, "", "wrong", "\u00e4"], ids=["missing", "empty", "wrong", "not ASCII"]
    )
    def test_it_writes_only_with_its_csrf_token(self, team: Any, shown: str | None) -> None:
        browser = team.browser("ada")
        good = browser.headers.pop("X-CSRF-Token")
        sent = {} if shown is None else {b"X-CSRF-Token": shown.encode("latin-1")}
        for answer in (
            browser.post("/api/lease", json={}, headers=sent),
            browser.post("/api/items/x/skip", json={"lease_token": 1}, headers=sent),
            browser.delete("/api/session", headers=sent),
        ):
            assert "X-CSRF-Token" in refused(answer, 403, "bad_csrf")
        assert team.desk.queue.counts()["leased"] == 0
        assert browser.get("/api/progress").status_code == 200, "reading needs none"
        browser.headers["X-CSRF-Token"] = good
        assert lease(browser).status_code == 200

    def test_another_sessions_csrf_token_is_wrong(self, team: Any) -> None:
        ada, bob = team.browser("ada"), team.browser("bob")
        ada.headers["X-CSRF-Token"] = bob.headers["X-CSRF-Token"]
        refused(lease(ada), 403, "bad_csrf")

    def test_a_foreign_page_is_refused_before_that(self, team: Any) -> None:
        browser = team.browser("ada")
        browser.headers["Origin"] = "http://evil.example"
        refused(lease(browser), 403, "foreign_origin")
        token = team.people.renew("ada")
        refused(browser.post("/api/session", json={"token": token}), 403, "foreign_origin")

    def test_a_session_that_nobody_uses_ends(self, team: Any, clock: MovedClock) -> None:
        browser = team.browser("ada")
        clock.ahead_s = IDLE_S - 60
        assert browser.get("/api/session").status_code == 200
        clock.ahead_s += IDLE_S - 60
        assert lease(browser).status_code == 200, "it was used in between"
        clock.ahead_s += IDLE_S + 60
        assert "any more" in refused(lease(browser), 401, "not_signed_in")

    def test_whoever_is_revoked_is_out_at_once(self, team: Any) -> None:
        browser = team.browser("ada")
        assert lease(browser).status_code == 200
        team.people.revoke("ada")
        refused(lease(browser), 401, "not_signed_in")
        refused(browser.get("/api/session"), 401, "not_signed_in")

    def test_signing_in_anew_ends_the_session_before(self, team: Any) -> None:
        token = team.people.add("ada")
        browser = team.sign_in(token)
        before = dict(browser.cookies)
        browser.post("/api/session", json={"token": token})
        old = team.client({})
        old.cookies.update(before)
        refused(old.get("/api/session"), 401, "not_signed_in")

    @pytest.mark.parametrize("value", ["", "mls_", "x" * 5000, "mls_" + "A" * 43, "%00"])
    def test_a_cookie_that_is_no_session_is_nobody(self, team: Any, value: str) -> None:
        team.people.add("ada")
        stranger = team.client({"Cookie": f"maskloop_session={value}"})
        refused(stranger.get("/api/session"), 401, "not_signed_in")
        assert stranger.delete("/api/session").status_code == 204

    def test_a_proxys_own_password_does_not_stand_in_the_way(self, team: Any) -> None:
        browser = team.browser("ada")
        browser.headers["Authorization"] = "Basic dXNlcjpwYXNzd29yZA=="
        assert browser.get("/api/session").json()["name"] == "ada"


class TestBearer:
    """A program."""

    def test_it_works_without_a_csrf_token(self, team: Any) -> None:
        program = team.program("simulated-1")
        assert program.get("/api/session").json() == {
            "name": "simulated-1",
            "role": "annotator",
            "csrf_token": None,
            "sign_in_required": True,
            "categories": [],
        }
        assert lease(program).status_code == 200
        assert [held.annotator for held in team.desk.queue.holders()] == ["simulated-1"]

    @pytest.mark.parametrize(
        "shown", ["Bearer", "Bearer mlp_x", "Bearer mls_x", "bearer x", "Bearer \u00e4"]
    )
    def test_a_token_that_nobody_has_is_refused(self, team: Any, shown: str) -> None:
        team.people.add("ada")
        stranger = team.client({b"Authorization": shown.encode("latin-1")})
        refused(lease(stranger, annotator="ada"), 401, "not_signed_in")

    def test_a_revoked_or_renewed_token_is_refused(self, team: Any) -> None:
        ada, bob = team.program("ada"), team.program("bob")
        team.people.revoke("ada")
        team.people.renew("bob")
        for program in (ada, bob):
            refused(lease(program), 401, "not_signed_in")

    def test_the_header_counts_before_the_cookie(self, team: Any) -> None:
        browser = team.browser("ada")
        browser.headers["Authorization"] = f"Bearer {team.people.add('bob')}"
        assert browser.get("/api/session").json()["name"] == "bob"

    def test_the_token_itself_is_no_cookie(self, team: Any) -> None:
        stranger = team.client({"Cookie": f"maskloop_session={team.people.add('ada')}"})
        refused(stranger.get("/api/session"), 401, "not_signed_in")


@pytest.mark.parametrize("kind", ["browser", "program"])
def test_nobody_works_under_anothers_name(team: Any, kind: str) -> None:
    ada = getattr(team, kind)("ada")
    message = refused(lease(ada, annotator="bob"), 403, "not_you")
    assert "'ada'" in message
    held = lease(ada, annotator="ada").json()["lease"]
    path = f"/api/items/{held['item']['item_id']}"
    body = {"annotator": "bob", "lease_token": held["lease_token"]}
    key = {"Idempotency-Key": "0123456789"}
    for verb, more in (
        ("heartbeat", {}),
        ("skip", {}),
        ("release", {}),
        ("submit", {"submission": {}}),
    ):
        refused(ada.post(f"{path}/{verb}", json=body | more, headers=key), 403, "not_you")
    assert [one.annotator for one in team.desk.queue.holders()] == ["ada"]


def test_whoever_guesses_must_wait(team: Any) -> None:
    token = team.people.add("ada")
    browser, guesser = team.sign_in(token), team.client({})
    for _ in range(5):
        refused(guesser.post("/api/session", json={"token": "mlp_guess"}), 401, "not_signed_in")
        guess = {"Authorization": "Bearer mlp_guess"}
        refused(guesser.get("/api/progress", headers=guess), 401, "not_signed_in")
    answer = guesser.post("/api/session", json={"token": token})
    refused(answer, 429, "too_many_tries")
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    right = {"Authorization": f"Bearer {token}"}
    refused(guesser.get("/api/progress", headers=right), 429, "too_many_tries")
    assert browser.get("/api/progress").status_code == 200, "a session is no guess"


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": "x" * 201}, {"token": 1}])
def test_what_is_no_token_is_told(team: Any, body: dict[str, Any]) -> None:
    message = refused(team.client({}).post("/api/session", json=body), 422, "invalid")
    assert message.startswith("token:")
