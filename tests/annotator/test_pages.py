"""The pages for people and the description for programs: complete, and nothing from elsewhere."""

import json
import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect
from pydantic import BaseModel

from annotator import messages

PAGES = ["/", "/docs"]
FILES = ["/static/site.css", "/static/landing.js", "/static/reference.js", "/static/icon.svg"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_brings_all_it_needs_from_here(api: httpx.Client, path: str) -> None:
    page = api.get(path)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>maskloop" in page.text
    wanted = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert wanted
    assert all(re.match(r"/[^/]|/$", address) for address in wanted), wanted
    for address in wanted:
        assert api.get(address).status_code == 200, address


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_script_or_style_inside(api: httpx.Client, path: str) -> None:
    text = api.get(path).text
    assert re.findall(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", text) == []


@pytest.mark.parametrize("path", FILES)
def test_a_file_has_its_type_and_names_no_other_server(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.headers["Content-Type"].startswith(kinds[path.rpartition(".")[2]])
    addresses = re.findall(r"https?://[\w.]+", answer.text)
    assert set(addresses) <= {"http://www.w3.org"}, "only the name of SVG itself"
    assert "innerHTML" not in answer.text


def test_what_comes_from_the_document_never_becomes_html(api: httpx.Client) -> None:
    scripts = api.get("/static/reference.js").text + api.get("/static/landing.js").text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", scripts)


def test_health_reaches_the_queue(api: httpx.Client) -> None:
    answer = api.get("/api/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_description_names_every_call(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    assert document["info"]["title"] == "maskloop annotator"
    assert set(document["paths"]) == {
        "/api/lease",
        "/api/items/{item_id}/heartbeat",
        "/api/items/{item_id}/submit",
        "/api/items/{item_id}/skip",
        "/api/items/{item_id}/release",
        "/api/items/{item_id}/predict",
        "/api/items/{item_id}/image",
        "/api/items/{item_id}/tiles/{level}/{column}/{row}",
        "/api/items/{item_id}/embedding",
        "/api/models/{version}/decoder/{side}",
        "/api/peek",
        "/api/health",
        "/api/progress",
    }


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_each_call_is_explained_with_its_problems(api: httpx.Client) -> None:
    for name, operation in operations(api.get("/openapi.json").json()):
        assert operation["description"], name
        problems = {
            status: answer for status, answer in operation["responses"].items() if status >= "400"
        }
        assert problems, name
        for status, answer in problems.items():
            schema = answer["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, (name, status)


def test_each_example_is_one(api: httpx.Client) -> None:
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    checked = []
    for name, schema in schemas.items():
        for example in schema.get("examples", []):
            model = getattr(messages, name)
            assert issubclass(model, BaseModel)
            model.model_validate_json(json.dumps(example))
            checked.append(name)
    assert {"LeaseRequest", "SubmitRequest", "PredictRequest", "LeaseAnswer"} <= set(checked)


@pytest.mark.browser
@pytest.mark.usefixtures("api")
def test_the_pages_show_the_queue_and_the_calls(desk: Any, chromium: Browser) -> None:
    desk.queue.claim("ada")
    page = chromium.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.goto(desk.server.url)
    expect(page.locator("#ready")).to_have_text("2")
    expect(page.locator("#leased")).to_have_text("1")
    expect(page.locator("#state")).to_have_text("0 % of 3 images are done.")
    expect(page.locator("#address")).to_have_text(desk.server.url)
    page.goto(f"{desk.server.url}/docs")
    expect(page.locator("#title")).to_contain_text("maskloop annotator")
    expect(page.locator("details.operation")).to_have_count(13)
    page.locator("summary", has_text="/api/lease").click()
    expect(page.locator("details[open]")).to_contain_text("LeaseRequest")
    assert troubles == []
    page.close()
