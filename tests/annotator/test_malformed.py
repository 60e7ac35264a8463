"""Whatever is sent, the server answers with a problem, never with an error of its own."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PATHS = [
    "/api/lease",
    "/api/peek",
    "/api/items/x/heartbeat",
    "/api/items/{item}/heartbeat",
    "/api/items/{item}/skip",
    "/api/items/{item}/release",
    "/api/items/{item}/submit",
    "/api/items/{item}/predict",
    "/api/session",
]
HEADERS = {"Content-Type": "application/json", "Idempotency-Key": "0123456789"}

BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="list"),
    pytest.param(b'"text"', id="text"),
    pytest.param(b"{", id="cut off"),
    pytest.param(b"\xff\xfe", id="not UTF-8"),
    pytest.param(b'{"annotator": NaN}', id="NaN"),
    pytest.param(b'{"annotator": "a", "annotator": "b", "lease_token": 1e400}', id="overflow"),
    pytest.param(b'{"annotator": "a", "lease_token": ' + b"9" * 5000 + b"}", id="5,000 digits"),
    pytest.param(b'{"annotator": "a", "lease_token": 9223372036854775808}', id="2^63"),
    pytest.param(b'{"annotator": "a", "lease_token": -1}', id="negative token"),
    pytest.param(b'{"annotator": "\\ud800", "lease_token": 1}', id="half a surrogate"),
    pytest.param(b'{"\\ud800": 1}', id="half a surrogate as a field"),
    pytest.param(b'{"annotator": "a\\u0000b", "lease_token": 1}', id="NUL"),
    pytest.param(b'{"annotator": "a\\u202eb", "lease_token": 1}', id="right to left"),
    pytest.param(b'{"annotator": "<img src=x onerror=alert(1)>"}', id="HTML"),
    pytest.param(b'{"annotator": "' + b"a" * 65 + b'"}', id="65 letters"),
    pytest.param(b'{"annotator": {"$ne": null}, "lease_token": 1}', id="object for a name"),
    pytest.param(b"[" * 100_000, id="100,000 deep"),
    pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="5,000 objects deep"),
    pytest.param(
        b'{"annotator":"ada","lease_token":1,"submission":{"decisions":[{"proposal_id":"\\ud800",'
        b'"action":"accepted"}]}}',
        id="half a surrogate as a proposal",
    ),
    pytest.param(
        b'{"annotator":"ada","lease_token":1,"submission":{"added":[{"segmentation":'
        b'{"size":[96,128],"counts":"' + b"~" * 1000 + b'"}}]}}',
        id="counts of tildes",
    ),
    pytest.param(
        b'{"annotator":"ada","lease_token":1,"submission":{"added":[{"segmentation":'
        b'{"size":[96,128],"counts":"' + b"o" * 1000 + b'"}}]}}',
        id="a run without an end",
    ),
]


@pytest.fixture
def item_id(api: httpx.Client) -> str:
    lease = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]
    return str(lease["item"]["item_id"])


def check_refused(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert answer.json().keys() == {"error", "message", "remedy"}
    assert answer.json()["message"]


@pytest.mark.parametrize("body", BODIES)
def test_a_malformed_body_is_refused_everywhere(
    api: httpx.Client, item_id: str, desk: Any, body: bytes
) -> None:
    for path in PATHS:
        check_refused(api.post(path.format(item=item_id), content=body, headers=HEADERS))
    assert desk.queue.counts() == {"ready": 2, "leased": 1, "done": 0, "dead": 0}


@pytest.mark.parametrize(
    "item_id", ["%00", "..%2f..", "%ff", "x" * 201, "a%0ab", "%F0%9F%98%80", "a b", "'; --"]
)
def test_a_malformed_item_id_is_refused(api: httpx.Client, item_id: str) -> None:
    for verb in ("heartbeat", "skip", "release"):
        held = {"annotator": "ada", "lease_token": 1}
        check_refused(api.post(f"/api/items/{item_id}/{verb}", json=held))


@pytest.mark.parametrize("name", ["ada", "Zoë", "李 小龙", "a.b_c-d@e", "7", "x" * 64])
def test_names_of_people_are_accepted(api: httpx.Client, name: str) -> None:
    assert api.post("/api/lease", json={"annotator": name}).status_code == 200


def test_a_message_is_short_whatever_was_sent(api: httpx.Client) -> None:
    answer = api.post("/api/lease", json={"x" * 100_000: 1})
    check_refused(answer)
    assert len(answer.content) < 2000


# What JSON can say, with the API's own words mixed in, so that some of it is nearly right.
FIELDS = "annotator lease_token submission decisions added segmentation size counts clicks points"
WORDS = st.sampled_from([*FIELDS.split(), "labels", "box", "logits", "float16", "p0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)


ARBITRARY = given(path=st.sampled_from(PATHS[2:]), value=VALUES, key=st.text("abc:.", max_size=12))
# One server for all examples: they are about what is sent, not about the queue's state.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(UNHURRIED, max_examples=25)
@ARBITRARY
def test_arbitrary_json_never_breaks_the_server(
    api: httpx.Client, path: str, value: Any, key: str
) -> None:
    check_answered(api, path, value, key)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(UNHURRIED, max_examples=600)
@ARBITRARY
def test_hundreds_of_times_arbitrary_json(
    api: httpx.Client, path: str, value: Any, key: str
) -> None:
    check_answered(api, path, value, key)


def check_answered(api: httpx.Client, path: str, value: Any, key: str) -> None:
    item = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]["item"]["item_id"]
    answer = api.post(
        path.format(item=item),
        content=json.dumps(value),
        headers={"Content-Type": "application/json", "Idempotency-Key": key},
    )
    assert answer.status_code < 500, (answer.status_code, value)
