"""The pages for people and the description for programs: complete, and nothing from elsewhere."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, expect
from pydantic import BaseModel

from annotator import lead_messages, messages, text_messages
from annotator.routers.pages import BUILT, pages_router

BUILT_PAGES = ["/", "/sign-in", "/lead"]
PAGES = [*BUILT_PAGES, "/docs"]
FILES = ["/static/site.css", "/static/reference.js", "/static/icon.svg"]
KINDS = {
    "css": "text/css",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "svg": "image/svg+xml",
    "wasm": "application/wasm",
}
FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture
def built() -> Path:
    """The folder of what Vite built."""
    if not (BUILT / "index.html").is_file():
        pytest.skip("the annotator's page is not built; run: make setup")
    return BUILT


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.usefixtures("built")
def test_a_page_brings_all_it_needs_from_here(api: httpx.Client, path: str) -> None:
    page = api.get(path)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert "<title>maskloop" in page.text
    wanted = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.text)
    assert wanted
    assert all(re.match(r"/[^/]|/$", address) for address in wanted), wanted
    for address in wanted:
        assert api.get(address).status_code == 200, address


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.usefixtures("built")
def test_a_page_has_no_script_or_style_inside(api: httpx.Client, path: str) -> None:
    text = api.get(path).text
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text) == []


@pytest.mark.parametrize("path", FILES)
def test_a_file_has_its_type_and_names_no_other_server(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert answer.headers["Content-Type"].startswith(KINDS[path.rpartition(".")[2]])
    addresses = re.findall(r"https?://[\w.]+", answer.text)
    assert set(addresses) <= {"http://www.w3.org"}, "only the name of SVG itself"
    assert "innerHTML" not in answer.text


def test_an_asset_has_its_type_and_is_kept_for_ever(api: httpx.Client, built: Path) -> None:
    names = sorted(path.name for path in (built / "assets").iterdir())
    assert {name.rpartition(".")[2] for name in names} <= set(KINDS)
    for name in names:
        answer = api.get(f"/assets/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["Content-Type"].startswith(KINDS[name.rpartition(".")[2]]), name
        assert answer.headers["Cache-Control"] == FOR_EVER, name
        assert answer.content == (built / "assets" / name).read_bytes(), name


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2Findex.html", "%2e%2e/index.html", ".hidden.js", "a%00.js"]
)
def test_nothing_but_assets_is_served_as_one(api: httpx.Client, name: str) -> None:
    answer = api.get(f"/assets/{name}")
    assert answer.status_code in (404, 422)
    assert set(answer.json()) == {"error", "message", "remedy"}


def test_our_own_scripts_make_no_html_of_text(api: httpx.Client) -> None:
    web = Path(BUILT).parent / "web" / "src"
    sources = [path.read_text() for path in web.rglob("*.ts")]
    assert sources
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\("
    for text in (*sources, api.get("/static/reference.js").text):
        assert not re.search(forbidden, text)


def test_a_page_that_was_not_built_says_what_to_run(
    desk: Any, api: httpx.Client, tmp_path: Path
) -> None:
    desk.server.app = FastAPI()
    desk.server.app.include_router(pages_router(tmp_path))
    for path in BUILT_PAGES:
        answer = api.get(path)
        assert (answer.status_code, "make setup" in answer.text) == (503, True)
    assert api.get("/docs").status_code == 200


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
        "/api/items/{item_id}/find",
        "/api/items/{item_id}/image",
        "/api/items/{item_id}/tiles/{level}/{column}/{row}",
        "/api/items/{item_id}/embedding",
        "/api/models/{version}/decoder/{side}",
        "/api/peek",
        "/api/health",
        "/api/progress",
        "/api/session",
        "/api/lead/overview",
        "/api/lead/items",
        "/api/lead/items/{item_id}/release",
        "/api/lead/items/{item_id}/reopen",
        "/api/lead/pins",
        "/api/lead/pins/{image_id}",
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
            places = (messages, lead_messages, text_messages)
            [model, *_] = [getattr(place, name) for place in places if hasattr(place, name)]
            assert issubclass(model, BaseModel)
            model.model_validate_json(json.dumps(example))
            checked.append(name)
    wanted = {"LeaseRequest", "SubmitRequest", "PredictRequest", "LeaseAnswer", "LeadOverview"}
    assert wanted <= set(checked)


@pytest.mark.browser
@pytest.mark.usefixtures("api")
def test_the_reference_shows_the_calls(desk: Any, chromium: Browser) -> None:
    page = chromium.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.goto(f"{desk.server.url}/docs")
    expect(page.locator("#title")).to_contain_text("maskloop annotator")
    expect(page.locator("details.operation")).to_have_count(24)
    page.locator("summary", has_text="/api/lease").click()
    expect(page.locator("details[open]")).to_contain_text("LeaseRequest")
    assert troubles == []
    page.close()
