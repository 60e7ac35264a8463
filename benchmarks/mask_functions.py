"""Functions on masks in `maskloop sql` beside a Python loop over pycocotools, on the same masks.

`python benchmarks/mask_functions.py [--json] [--quick] [--images N] [--masks N]`. A store of its
own gets images of SA-1B's size (1500 x 2250) with masks whose sizes spread as SA-1B's do, most of
them small. `mask_iou`: all pairs of masks of an image, a million; the answer has each number, and
each must be the loop's to the last bit. `mask_area`: every mask, 20 times. Times of SQL are those
of the whole query: as `maskloop sql` asks it (`sql`), with the rows copied to the process that
answers, its start, and the answer; and on a notebook's open connection (`notebook`). The loop
has the codes in memory, as pycocotools takes them; `rows` is the loop of somebody who has the same
store and no functions, and asks for the codes first. `list`: pycocotools given many codes in one
call (200: for areas of more it fails with numpy 2). `start`: `SELECT 1`, which imports no function
on masks.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from duckdb import DuckDBPyConnection
from pycocotools import mask as coco_mask

from engine import mask_functions, rle
from engine.rle import Rle
from storage.catalog import notebook
from storage.catalog.lake import Lake
from storage.catalog.sqlgate import SqlLimits, run_user_sql
from storage.rows import MaskRow, utcnow

HW = (1500, 2250)
# Of the square root of a mask's area in pixels.
MEDIAN_SIDE = 60.0
SPREAD = 0.9
AT_ONCE = 200
REPEATS = 20
LIMITS = SqlLimits(wall_s=600, cpu_s=600, max_rows=10_000_000, max_bytes=1 << 30)
PAIRS = """
SELECT mask_iou(a.segmentation, b.segmentation) AS iou
FROM masks a JOIN masks b ON a.image_id = b.image_id AND a.mask_id < b.mask_id
ORDER BY a.mask_id, b.mask_id
"""
CODES = "SELECT segmentation FROM masks, range({}) ORDER BY mask_id"
AREAS = "SELECT mask_area(segmentation) AS area FROM masks, range({}) ORDER BY mask_id"


def blot(random: np.random.Generator) -> Rle:
    """A region with a wavy outline somewhere in the image."""
    side = min(MEDIAN_SIDE * float(np.exp(SPREAD * random.normal())), HW[0] / 2 - 1)
    reach = max(1, int(side))
    x0, y0 = random.integers(0, HW[1] - 2 * reach), random.integers(0, HW[0] - 2 * reach)
    x, y = np.ogrid[-reach:reach, -reach:reach]
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    phase, other = random.uniform(0, 2 * np.pi, 2)
    edge = 1 + 0.2 * np.sin(3 * angle + phase) + 0.1 * np.sin(11 * angle + other)
    columns = distance <= 0.5642 * side * edge
    return rle.segments_of(columns, int(x0), int(y0), HW[0]).encoded(HW[1])


def fill(lake: Lake, num_images: int, num_masks: int) -> dict[str, list[Rle]]:
    """The masks of each image, in the order of their ids."""
    random, made = np.random.default_rng(0), {}
    rows = []
    for image in range(num_images):
        masks = [blot(random) for _ in range(num_masks)]
        made[f"{image:05}"] = masks
        for number, mask in enumerate(masks):
            x0, y0, x1, y1 = map(float, rle.box(mask))
            rows.append(
                MaskRow(
                    mask_id=f"{image:05}-{number:05}",
                    image_id=f"{image:05}",
                    stage="label",
                    run_id="run",
                    segmentation={"size": list(mask.size), "counts": mask.counts},
                    bbox=[x0, y0, x1 - x0, y1 - y0],
                    area=rle.area(mask),
                    created_at=utcnow(),
                )
            )
    lake.commit(lambda tx: tx.insert(rows), message="benchmark")
    return made


def to_coco(mask: Rle) -> dict[str, Any]:
    return {"size": list(mask.size), "counts": mask.counts.encode()}


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """The shortest of some times, in seconds, and what came of it."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return min(times), found


def in_sql(lake: Lake, sql: str) -> npt.NDArray[Any]:
    table = run_user_sql(lake, sql, LIMITS, functions=mask_functions)
    return np.asarray(table.column(0).to_numpy())


def in_notebook(opened: DuckDBPyConnection, sql: str) -> npt.NDArray[Any]:
    return np.asarray(opened.execute(sql).to_arrow_table().column(0).to_numpy())


def loop_of_rows(opened: DuckDBPyConnection, sql: str) -> list[int]:
    return [int(coco_mask.area(code)) for (code,) in opened.execute(sql).fetchall()]


def loop_of_ious(images: list[list[dict[str, Any]]]) -> list[float]:
    return [
        float(coco_mask.iou([a], [b], [0])[0, 0])
        for masks in images
        for index, a in enumerate(masks)
        for b in masks[index + 1 :]
    ]


def lists_of_areas(masks: list[dict[str, Any]]) -> list[int]:
    return [
        int(area)
        for start in range(0, len(masks), AT_ONCE)
        for area in coco_mask.area(masks[start : start + AT_ONCE])
    ]


def measure(lake: Lake, num_images: int, num_masks: int, rounds: int) -> dict[str, Any]:
    made = fill(lake, num_images, num_masks)
    images = [[to_coco(mask) for mask in masks] for masks in made.values()]
    flat = [mask for masks in images for mask in masks]
    often = [mask for mask in flat for _ in range(REPEATS)]
    start_s, _ = timed(lambda: in_sql(lake, "SELECT 1"), rounds)
    often_areas = AREAS.format(REPEATS)
    iou_s, ious = timed(lambda: in_sql(lake, PAIRS), rounds)
    iou_loop_s, expected_ious = timed(lambda: loop_of_ious(images), 1)
    area_s, areas = timed(lambda: in_sql(lake, often_areas), rounds)
    with notebook.connect(lake.place, functions=mask_functions) as opened:
        iou_here_s, ious_here = timed(lambda: in_notebook(opened, PAIRS), rounds)
        area_here_s, areas_here = timed(lambda: in_notebook(opened, often_areas), rounds)
        area_rows_s, _ = timed(lambda: loop_of_rows(opened, CODES.format(REPEATS)), rounds)
    area_loop_s, expected_areas = timed(lambda: [int(coco_mask.area(m)) for m in often], rounds)
    area_list_s, _ = timed(lambda: lists_of_areas(often), rounds)
    return {
        "masks": len(flat),
        "letters_a_mask": float(np.mean([len(mask["counts"]) for mask in flat])),
        "pairs": len(ious),
        "start_s": start_s,
        "iou": {
            "sql_s": iou_s,
            "notebook_s": iou_here_s,
            "loop_s": iou_loop_s,
            "times_the_loop": iou_loop_s / iou_s,
            "notebook_times_the_loop": iou_loop_s / iou_here_s,
            "same_numbers": all(np.array_equal(f, expected_ious) for f in (ious, ious_here)),
            "overlapping": float(np.mean(ious > 0)),
        },
        "area": {
            "sql_s": area_s,
            "notebook_s": area_here_s,
            "loop_s": area_loop_s,
            "list_s": area_list_s,
            "rows_s": area_rows_s,
            "notebook_times_the_rows": area_rows_s / area_here_s,
            "times_the_loop": area_loop_s / area_s,
            "notebook_times_the_loop": area_loop_s / area_here_s,
            "same_numbers": all(f.tolist() == expected_areas for f in (areas, areas_here)),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="3 images of 20 masks")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--masks", type=int, default=142, help="of an image")
    options = parser.parse_args()
    # pycocotools does not know numpy 2's `copy`.
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
    num_images, num_masks = (3, 20) if options.quick else (options.images, options.masks)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.create(Path(folder))
        result = measure(lake, num_images, num_masks, 1 if options.quick else 3)
        lake.close()
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['masks']} masks of {result['letters_a_mask']:.0f} letters, SELECT 1 takes")
    print(f"{result['start_s']:.2f} s; {result['pairs']} pairs, of which share a pixel")
    print(f"{result['iou']['overlapping']:.1%}; seconds:")
    for name in ("iou", "area"):
        shown = {key: value for key, value in result[name].items() if key.endswith("_s")}
        print(f"  mask_{name}: " + ", ".join(f"{key[:-2]} {s:.2f}" for key, s in shown.items()))
        same = "the same numbers" if result[name]["same_numbers"] else "OTHER NUMBERS"
        times = result[name]["times_the_loop"], result[name]["notebook_times_the_loop"]
        print(f"    {times[0]:.1f} and {times[1]:.1f} times as fast as the loop, {same}")


if __name__ == "__main__":
    main()
