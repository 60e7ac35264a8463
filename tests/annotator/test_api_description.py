"""Whatever the API's own description allows or forbids to send is answered as it says.

Schemathesis makes the requests out of /openapi.json: right ones, and ones with something wrong.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
AS_DESCRIBED = [content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def check_all(api: httpx.Client, session: requests.Session, num_cases: int) -> Counter[int]:
    """Send about so many requests, each kind as often; returns the statuses that came."""
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    kinds = [(operation, mode) for operation in operations for mode in MODES]
    statuses: Counter[int] = Counter()
    for operation, mode in kinds:
        num = math.ceil(num_cases / len(kinds))
        check_kind(api, session, operation.as_strategy(mode), num, statuses)
    return statuses


def check_kind(
    api: httpx.Client, session: requests.Session, cases: Any, num: int, statuses: Counter[int]
) -> None:
    lease = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]
    held = {"annotator": "ada", "lease_token": lease["lease_token"]}

    # What is random names no item, so half of it is about a real one, and half of that by its
    # holder.
    @settings(max_examples=num, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=cases, is_real=st.booleans(), is_held=st.booleans())
    def send(case: Any, is_real: bool, is_held: bool) -> None:
        if is_real and "item_id" in (case.path_parameters or {}):
            case.path_parameters["item_id"] = lease["item"]["item_id"]
            if is_held and isinstance(case.body, dict) and "lease_token" in case.body:
                case.body |= held
        answer = case.call(base_url=str(api.base_url), session=session)
        statuses[answer.status_code] += 1
        check_answer(case, answer)

    # A request that has nothing in it cannot be wrong.
    with suppress(Unsatisfiable):
        send()


def check_answer(case: Any, answer: Any) -> None:
    assert answer.status_code < 500, case.as_curl_command()
    if answer.status_code < 400:
        case.validate_response(answer, checks=AS_DESCRIBED)
        return
    problem = answer.json()
    assert problem.keys() == {"error", "message", "remedy"}, case.as_curl_command()
    assert all(isinstance(value, str) and value for value in problem.values())


def test_a_few_requests_of_each_kind(api: httpx.Client, session: requests.Session) -> None:
    statuses = check_all(api, session, 200)
    assert {200, 404, 422} <= statuses.keys()
    assert statuses.total() >= 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_requests(api: httpx.Client, session: requests.Session) -> None:
    # Of some calls there are not so many different ones.
    statuses = check_all(api, session, 12_800)
    assert {200, 404, 409, 422} <= statuses.keys()
    assert statuses.total() >= 10_000
