"""How long a click takes in the annotator's page, and how smoothly two thousand masks move.

`python benchmarks/click_latency.py [--json] [--quick] [--clicks N]`. Chromium opens the page of a
real server on real images of nuclei; each nucleus gets a click in its middle and one more. Times
are from the pointer going down to the frame that shows a mask: `first`, of the first answer,
`final`, of the answer after a closer look. `browser`: the pointer has rested for a tenth of a
second, as a hand does, so that its hover is answered; `browser_at_once`: it goes down where it has
just arrived. `server`: like `browser`, without WebAssembly. `encoding_again`: the bare engine in
this process when it encodes the image at each click, as a labelling backend without state does.
`panning`: frames a second while a picture with 2,000 masks is dragged about, once it is all there.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from annotator_place import mosaic, nuclei, on_page, served, visitor, wait_until
from playwright.sync_api import Page
from real_data import require

from engine import images, rle
from engine.geometry import mask_to_box
from engine.model import weights
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.rle import Rle

NUM_PICTURES = 4
# Of a picture's height: below, the mask in the making has its buttons.
LOWEST = 0.75
NUM_MASKS = 2_000
PANNED_S = 5.0
# Until then the model still loads, on the same cores.
SETTLED_S = 3.0

# Looks at each frame for the answer to the next click; a message goes out after the frame is drawn.
_PROBE = """() => {
  window.told = new Promise((resolve, reject) => {
    const clicks = maskloop.view().clicks;
    let first = null;
    addEventListener("pointerdown", (event) => {
      const painted = (then) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => then(performance.now() - event.timeStamp);
        port2.postMessage(0);
      };
      const look = () => {
        const view = maskloop.view();
        const done = view.waiting === 0 && view.clicks > clicks;
        if (first === null && (done || view.previewed)) {
          first = -1;
          painted((ms) => { first = ms; });
        }
        if (done) painted((ms) => { resolve({ first: first < 0 ? ms : first, final: ms }); });
        else if (performance.now() - event.timeStamp > 10000) reject(new Error("no answer"));
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    }, { capture: true, once: true });
  });
}"""
_FRAMES = """() => {
  window.frames_at = [];
  const look = (at) => { window.frames_at.push(at); requestAnimationFrame(look); };
  requestAnimationFrame(look);
}"""
_NO_WASM = "delete globalThis.WebAssembly;"
_RESTS_MS = 100.0
SERIES = (
    ("browser", "", _RESTS_MS),
    ("browser_at_once", "", 0.0),
    ("server", _NO_WASM, _RESTS_MS),
)


def middle(mask: Rle) -> tuple[float, float]:
    """The pixel of a mask that is nearest to the middle of its box."""
    shape = rle.decode(mask)
    x0, y0, x1, y1 = mask_to_box(shape)
    ys, xs = np.nonzero(shape)
    nearest = np.argmin((xs + 0.5 - (x0 + x1) / 2) ** 2 + (ys + 0.5 - (y0 + y1) / 2) ** 2)
    return float(xs[nearest] + 0.5), float(ys[nearest] + 0.5)


def clicked(page: Page, x: float, y: float, rest_ms: float) -> dict[str, float]:
    """Milliseconds of one click."""
    page.evaluate(_PROBE)
    page.mouse.move(*on_page(page, x, y))
    if rest_ms:
        page.wait_for_timeout(rest_ms)
    page.mouse.down()
    page.mouse.up()
    found: dict[str, float] = page.evaluate("window.told")
    return found


def clicks_on(
    page: Page, masks: list[Rle], num_clicks: int, rest_ms: float
) -> list[dict[str, float]]:
    """Two clicks on each of these masks, as many as are asked for."""
    found = []
    for mask in masks[: -(-num_clicks // 2)]:
        x, y = middle(mask)
        found.append(clicked(page, x, y, rest_ms))
        found.append(clicked(page, min(x + 1, mask.size[1] - 0.5), y, rest_ms))
        page.keyboard.press("Escape")
        wait_until(page, "maskloop.view().making === null")
    return found[:num_clicks]


def summary(times: list[float]) -> dict[str, float]:
    return {
        "median_ms": statistics.median(times),
        "p95_ms": float(np.percentile(times, 95)),
        "max_ms": max(times),
    }


def page_times(
    folder: Path, num_clicks: int, *, script: str, rest_ms: float
) -> dict[str, dict[str, float]]:
    """Times of clicks on several pictures in one page."""
    chosen = [each for each in nuclei() if len(each[1]) >= 12][:NUM_PICTURES]
    pictures = [
        (path, [mask for mask in masks if rle.box(mask)[3] < LOWEST * mask.size[0]])
        for path, masks in chosen
    ]
    each = -(-num_clicks // NUM_PICTURES)
    found: list[dict[str, float]] = []
    shown: list[tuple[Path, list[Rle]]] = [(path, []) for path, _ in pictures]
    with served(folder / "workspace", shown) as url, visitor(url, script=script) as page:
        for place, (_, masks) in enumerate(pictures):
            # The decoder is there, as after the first seconds of a visit.
            clicked(page, *middle(masks[0]), rest_ms)
            page.keyboard.press("Escape")
            found += clicks_on(page, masks * each, each, rest_ms)
            if place < len(pictures) - 1:
                before = page.evaluate("maskloop.view().item_id")
                page.keyboard.press("s")
                other = f"maskloop.view().item_id !== {json.dumps(before)}"
                wait_until(page, f"{other} && maskloop.view().is_painted")
    return {name: summary([one[name] for one in found[:num_clicks]]) for name in ("first", "final")}


def encoding_again(num_clicks: int) -> dict[str, float]:
    """Times of the engine alone when each click encodes its image."""
    model, _ = weights.load(weights.shipped())
    predictor = Predictor(model, version="benchmark")
    path, masks = next(each for each in nuclei() if len(each[1]) >= 12)
    pixels = images.decode(path.read_bytes()).pixels
    times = []
    for click in range(num_clicks + 1):
        prompt = Prompts.clicks([middle(masks[click % len(masks)])], [1])
        began = time.perf_counter()
        predictor.predict(predictor.embed(pixels), prompt, multimask=True).masks()
        times.append(1000 * (time.perf_counter() - began))
    return summary(times[1:])


def dragged_about(page: Page, x: float, y: float, seconds: float) -> None:
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        turn = 2 * np.pi * passed / 2
        page.mouse.move(x + 300 * np.sin(turn), y + 200 * np.cos(turn))


def panning(folder: Path, seconds: float) -> dict[str, Any]:
    """Frames while a mosaic is dragged round and round."""
    path = folder / "mosaic.png"
    masks = mosaic(path, num_masks=NUM_MASKS)
    with served(folder / "workspace", [(path, masks)]) as url, visitor(url) as page:
        page.keyboard.press("+")
        page.keyboard.press("+")
        wait_until(page, "maskloop.view().is_painted")
        box = page.locator("#stage").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down(button="middle")
        dragged_about(page, x, y, SETTLED_S)
        page.evaluate(_FRAMES)
        dragged_about(page, x, y, seconds)
        frames: list[float] = page.evaluate("window.frames_at")
        page.mouse.up(button="middle")
    gaps = np.diff(frames)
    return {
        "masks": len(masks),
        "frames_per_s": 1000 * len(gaps) / float(gaps.sum()),
        "gap_p95_ms": float(np.percentile(gaps, 95)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a few clicks, a second of panning")
    parser.add_argument("--clicks", type=int, default=200)
    options = parser.parse_args()
    require("nuclei", quick=options.quick)
    num_clicks = 8 if options.quick else options.clicks
    result: dict[str, Any] = {"clicks": num_clicks}
    for name, script, rest_ms in SERIES:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = page_times(Path(folder), num_clicks, script=script, rest_ms=rest_ms)
    result["encoding_again"] = encoding_again(num_clicks)
    with tempfile.TemporaryDirectory() as folder:
        result["panning"] = panning(Path(folder), 1.0 if options.quick else PANNED_S)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{num_clicks} clicks, ms: median, 95 %, longest")
    for name, _, _ in SERIES:
        for kind, times in result[name].items():
            print(f"  {name:17}{kind:6}" + "".join(f"{value:9.1f}" for value in times.values()))
    again = result["encoding_again"].values()
    print("  encoding_again         " + "".join(f"{value:9.1f}" for value in again))
    moved = result["panning"]
    print(f"panning with {moved['masks']} masks: {moved['frames_per_s']:.0f} frames a second")


if __name__ == "__main__":
    main()
