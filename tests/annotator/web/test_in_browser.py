"""The worker in Chromium under the server's headers: with threads, without, and not at all."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from engine import rle
from engine.rle import Rle, Segments

pytestmark = pytest.mark.browser
PROJECT = Path(__file__).parents[3]
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "img-src 'self' blob: data:"
)
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
# Each step's answers as plain lists; `answer`: the server's to every prompt, if it has one.
PREDICT = """async ({ item, steps, answer }) => {
  const unreachable = () => Promise.reject(new Error("the server is out of reach"));
  const api = { predict: answer ? async () => answer : unreachable };
  const predictor = await window.best(api, item);
  const given = [];
  for (const { clicks, box, previous, multimask } of steps) {
    const token = previous && given[previous[0]][previous[1]].token;
    const options = { previous: token, multimask, hover: false };
    given.push(await predictor.predict({ clicks, box }, options));
  }
  predictor.close();
  const plain = ({ mask, iou, token }) =>
    ({ starts: [...mask.starts], ends: [...mask.ends], iou, token });
  return given.map((answers) => answers.map(plain));
}"""
EXAMPLE = {
    "segmentation": {"size": [4, 6], "counts": "4220<"},
    "predicted_iou": 0.75,
    "logits": {"size": [1, 1], "float16": "AAA="},
    "window": None,
}


class Handler(SimpleHTTPRequestHandler):
    """Serves a built page, and an item's files where the API has them."""

    item: Path
    headers_too: dict[str, str]

    def translate_path(self, path: str) -> str:
        name, _, window = path.lstrip("/").partition("?window=")
        if name.startswith("decoder-"):
            return str(self.item / name)
        if name == "api/items/drawn/embedding":
            corners = window.replace(",", "-")
            return str(self.item / (f"window-{corners}" if window else "embedding"))
        return super().translate_path(path)

    def end_headers(self) -> None:
        for name, value in {"Content-Security-Policy": POLICY, **self.headers_too}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def serving(folder: Path, item: Path, headers: dict[str, str]) -> Iterator[str]:
    kind = type("Own", (Handler,), {"item": item, "headers_too": headers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def opened(chromium: Browser, address: str) -> Iterator[Page]:
    page = chromium.new_page()
    try:
        page.goto(address)
        page.wait_for_function("() => window.best")
        yield page
    finally:
        page.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    command = ["exec", "--no", "--", "vite", "build", "--config", "trial/vite.config.ts"]
    done = subprocess.run(
        ["sh", "infra/web.sh", *command, "--outDir", folder],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("headers", [ISOLATED, {}], ids=["threads", "one thread"])
def test_the_worker_answers_as_the_server(
    chromium: Browser, built: Path, drawn_item: Path, headers: dict[str, str]
) -> None:
    cases = json.loads((drawn_item / "cases.json").read_text(encoding="utf-8"))
    with serving(built, drawn_item, headers) as address, opened(chromium, address) as page:
        assert page.evaluate("self.crossOriginIsolated") == bool(headers)
        given = page.evaluate(PREDICT, {**cases, "answer": None})
    item = cases["item"]
    for step, answers in zip(cases["steps"], given, strict=True):
        for expected, answer in zip(step["answers"], answers, strict=True):
            same(expected, answer, (item["height"], item["width"]))


def same(expected: dict[str, Any], answer: dict[str, Any], hw: tuple[int, int]) -> None:
    starts, ends = (np.array(answer[name], dtype=np.int64) for name in ("starts", "ends"))
    mask = Segments(starts, ends, hw[0]).encoded(hw[1])
    [[iou]] = rle.iou_matrix([mask], [Rle(hw, expected["code"]["counts"])])
    assert iou > 0.99 or rle.area(mask) == 0
    assert abs(answer["iou"] - expected["iou"]) < 1e-3
    assert answer["token"] > 0


@pytest.mark.parametrize("lost", ["embedding", "decoder-512", "decoder-256"])
def test_without_its_files_the_server_answers(
    chromium: Browser, built: Path, drawn_item: Path, tmp_path: Path, lost: str
) -> None:
    cases = json.loads((drawn_item / "cases.json").read_text(encoding="utf-8"))
    for path in drawn_item.iterdir():
        if path.name != lost:
            (tmp_path / path.name).symlink_to(path)
    answer = {"model_version": "nano", "masks": [EXAMPLE]}
    with serving(built, tmp_path, {}) as address, opened(chromium, address) as page:
        asked = {"item": cases["item"], "steps": cases["steps"][:1], "answer": answer}
        [[given]] = page.evaluate(PREDICT, asked)
    assert given == {"starts": [4, 8], "ends": [6, 10], "iou": 0.75, "token": -1}
