"""Millions of masks in our store, and in SQLite, plain Parquet and COCO JSON, in one run.

`python benchmarks/store_scale.py [--json] [--quick] [--millions 1 10] [--folder DIR]`. Masks are
drawn with sizes as SA-1B's, a hundred an image, and go in as a run of `maskloop generate` commits
them: a shard of 1,000 images at a time. Then every store is asked the same, three times each with
other parameters: the median counts. JSON, which pycocotools reads whole (`open_s`), is there up to
a million masks, the others up to ten. Ours alone also says where a mask comes from, what a commit
has changed, and what other thresholds would keep. Seconds; `bytes_per_mask` on disk.

What a billion masks would take (`billion`) follows from the two largest sizes: bytes by their
share, seconds by the slope between them.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from drawn_masks import HW, NUM_OUTLINES, DrawnMasks, Outlines
from scale_stores import QUESTIONS, Json, Ours, Parquet, Sqlite, Store

from flows.cli.terminal import terminal_progress
from flows.progress import Progress
from storage.rows import ImageRow, ImageSetRow, MaskRow, ModelVersionRow, RunRow, utcnow

MASKS_PER_IMAGE, IMAGES_PER_SHARD = 100, 1_000
MODELS = ("v-first", "v-second")
MILLION = 1_000_000
TIMES = 3
NOW = utcnow()

# Of our store alone.
LINEAGE = """SELECT m.mask_id, m.prompt, r.stage, r.started_at, v.version, v.parent,
        v.training_snapshot, v.num_training_masks
    FROM masks m JOIN runs r USING (run_id) JOIN model_versions v ON m.model_version = v.version
    WHERE m.mask_id = ?"""
CHANGED = """SELECT model_version, count(*) FROM masks AT (VERSION => {after})
    WHERE snapshot_id > {before} GROUP BY 1"""
STANDING = "SELECT mask_id, segmentation FROM current_masks WHERE image_id = ?"


def rows_of(shard: int, masks: DrawnMasks) -> tuple[list[MaskRow], list[ImageSetRow]]:
    """A shard's rows, as automatic generation makes them."""
    random = np.random.default_rng([1, shard])
    model = MODELS[shard % len(MODELS)]
    made: dict[str, Any] = {
        "model_version": model,
        "run_id": f"run-{model}",
        "config_hash": "c" * 16,
    }
    made["shard_key"] = _name(f"shard {shard}")
    num_images = len(masks.counts) // MASKS_PER_IMAGE
    images = [image_id(shard, number) for number in range(num_images)]
    ious, stable = (0.88 + 0.12 * random.beta(2, 2, (2, len(masks.counts)))).tolist()
    height, width = HW
    rows = [
        MaskRow(
            **made,
            mask_id=mask_id(shard, number),
            image_id=images[number // MASKS_PER_IMAGE],
            stage="auto",
            prompt="grid",
            generation_depth=1,
            segmentation={"size": [height, width], "counts": counts},
            bbox=[float(value) for value in box],
            crop_box=[0.0, 0.0, float(width), float(height)],
            area=area,
            predicted_iou=iou,
            stability_score=stability,
            point_coords=[[box[0] + box[2] / 2, box[1] + box[3] / 2]],
            level="whole",
            created_at=NOW,
        )
        for number, (counts, box, area, iou, stability) in enumerate(
            zip(masks.counts, masks.boxes.tolist(), masks.areas.tolist(), ious, stable, strict=True)
        )
    ]
    sets = [
        ImageSetRow(
            **made,
            image_id=name,
            num_proposed=MASKS_PER_IMAGE,
            num_masks=MASKS_PER_IMAGE,
            rejections={},
            created_at=NOW,
        )
        for name in images
    ]
    return rows, sets


def image_id(shard: int, number: int) -> str:
    """Shards hold images by their ids, in order."""
    return f"{(shard * IMAGES_PER_SHARD + number) * 99:08x}" + _name(f"image {shard} {number}")[8:]


def mask_id(shard: int, number: int) -> str:
    """It begins as its image's."""
    return image_id(shard, number // MASKS_PER_IMAGE)[:8] + _name(f"{shard} {number}")[8:]


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def pieces(num_masks: int, outlines: Outlines) -> Iterator[tuple[list[MaskRow], list[ImageSetRow]]]:
    """The same masks at every call, a shard at a time."""
    most = MASKS_PER_IMAGE * IMAGES_PER_SHARD
    for shard, start in enumerate(range(0, num_masks, most)):
        random = np.random.default_rng([0, shard])
        yield rows_of(shard, outlines.place(min(most, num_masks - start), random))


def fill(store: Store, num_masks: int, outlines: Outlines, progress: Progress) -> float:
    """Seconds that the store took, without those in which masks were drawn."""
    seconds, done = 0.0, 0
    for masks, sets in pieces(num_masks, outlines):
        start = time.perf_counter()
        store.add(masks, sets)
        seconds += time.perf_counter() - start
        done += len(masks)
        progress.step(f"masks in {type(store).__name__}", done, num_masks)
    start = time.perf_counter()
    store.done()
    return seconds + time.perf_counter() - start


def asked(store: Store, num_masks: int) -> dict[str, float]:
    """Seconds of each question."""
    names = _parameters(num_masks)
    found = {}
    for name, sql in QUESTIONS.items():
        params = names.get(name, [()] * TIMES)
        found[name] = _median(partial(_answer, store, sql), params)
    return found


def _parameters(num_masks: int) -> dict[str, list[tuple[str]]]:
    random = np.random.default_rng(2)
    most = MASKS_PER_IMAGE * IMAGES_PER_SHARD
    masks, images = [], []
    for number in random.integers(0, num_masks, TIMES).tolist():
        shard, place = divmod(number, most)
        masks.append((mask_id(shard, place),))
        images.append((image_id(shard, place // MASKS_PER_IMAGE),))
    return {"one mask": masks, "masks of an image": images}


def _some(answer: Sequence[Any]) -> None:
    assert answer, "every question has an answer"


def _answer(store: Store, sql: str, given: Sequence[Any]) -> None:
    _some(store.ask(sql, given))


def _open(store: Json, _given: object) -> None:
    store.open()


def _median(ask: Callable[[Any], None], params: Sequence[Any]) -> float:
    seconds = []
    for given in params:
        start = time.perf_counter()
        ask(given)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def prepared(folder: Path, num_masks: int) -> Ours:
    """Our store with the images, runs and models that masks refer to."""
    store = Ours(folder)
    num_images = num_masks // MASKS_PER_IMAGE
    for shard, start in enumerate(range(0, num_images, IMAGES_PER_SHARD)):
        here = range(min(IMAGES_PER_SHARD, num_images - start))
        store.put([_image(image_id(shard, number)) for number in here])
    for number, version in enumerate(MODELS):
        store.put([_run(f"run-{version}"), _model(version, number)])
    return store


def _image(name: str) -> ImageRow:
    height, width = HW
    return ImageRow(
        image_id=name,
        uri=f"source:images/{name}.jpg",
        height=height,
        width=width,
        split="unlabelled",
        source="images",
        group_id=name,
        file_name=f"{name}.jpg",
        format="JPEG",
        mode="RGB",
        bit_depth=8,
        had_alpha=False,
        num_frames=1,
        dhash="0" * 16,
        run_id="run-add",
        added_at=NOW,
    )


def _run(name: str) -> RunRow:
    return RunRow(
        run_id=name, stage="generate", config="{}", status="done", started_at=NOW, ended_at=NOW
    )


def _model(version: str, number: int) -> ModelVersionRow:
    return ModelVersionRow(
        version=version,
        weights_uri=f"models/{version}.safetensors",
        weights_sha256=_name(version),
        parent=MODELS[number - 1] if number else None,
        architecture="nano",
        config_hash="c" * 16,
        config="{}",
        training_snapshot=1,
        num_training_images=1,
        num_training_masks=1,
        generation_depth=0,
        role="candidate",
        status="retired" if number else "promoted",
        run_id=f"run-{version}",
        created_at=NOW,
    )


def ours_alone(store: Ours, num_masks: int) -> dict[str, float]:
    """Seconds of what the other stores cannot say."""
    names = _parameters(num_masks)
    after = store.lake.snapshot()
    changed = CHANGED.format(before=after - 1, after=after)
    return {
        "lineage of a mask": _median(
            lambda given: _some(store.ask(LINEAGE, given)), names["one mask"]
        ),
        "what a commit changed": _median(
            lambda _given: _some(store.ask(changed, ())), range(TIMES)
        ),
        # Of an image of the model in service.
        "masks that stand": _median(
            lambda given: _some(store.ask(STANDING, given)),
            [(image_id(0, number),) for number in range(TIMES)],
        ),
    }


def at_size(folder: Path, num_masks: int, outlines: Outlines, progress: Progress) -> dict[str, Any]:
    """All stores with so many masks."""
    stores: dict[str, Store] = {"ours": prepared(folder / "ours", num_masks)}
    if num_masks <= 10 * MILLION:
        stores |= {"parquet": Parquet(folder / "parquet"), "sqlite": Sqlite(folder / "sqlite")}
    if num_masks <= MILLION:
        stores["json"] = Json(folder / "json")
    found: dict[str, Any] = {"masks": num_masks}
    for name, store in stores.items():
        seconds = fill(store, num_masks, outlines, progress)
        answer: dict[str, Any] = {
            "masks_per_s": num_masks / seconds,
            "bytes_per_mask": store.bytes() / num_masks,
        }
        if isinstance(store, Json):
            answer["open_s"] = _median(partial(_open, store), [()])
        answer["seconds"] = asked(store, num_masks)
        if isinstance(store, Ours):
            answer["seconds"] |= ours_alone(store, num_masks)
        found[name] = answer
        progress.note(f"{num_masks} masks in {name}: {answer}")
    return found


def billion(sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Ours with SA-1B's number of masks, by the two largest sizes."""
    less, more = sizes[-2:]
    grown = {
        name: seconds
        + (1e9 - more["masks"])
        * max(0.0, seconds - less["ours"]["seconds"][name])
        / (more["masks"] - less["masks"])
        for name, seconds in more["ours"]["seconds"].items()
    }
    return {"terabytes": more["ours"]["bytes_per_mask"] * 1e9 / 1e12, "seconds": grown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--folder", type=Path, help="where the stores are made, and removed again")
    options = parser.parse_args()
    millions = [0.002, 0.004] if options.quick else sorted(options.millions)
    random = np.random.default_rng(0)
    sizes = []
    with terminal_progress() as progress:
        outlines = Outlines.draw(1_000 if options.quick else NUM_OUTLINES, random)
        for number in millions:
            folder = Path(tempfile.mkdtemp(prefix="stores-", dir=options.folder))
            try:
                sizes.append(at_size(folder, int(number * MILLION), outlines, progress))
            finally:
                shutil.rmtree(folder)
    result: dict[str, Any] = {"sizes": sizes}
    if len(sizes) > 1:
        result["billion"] = billion(sizes)
    print(json.dumps(result) if options.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
