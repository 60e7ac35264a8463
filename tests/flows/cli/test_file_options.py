"""Masks of files beyond SAM's generator: parts, overlaps, grids of one's own; a large image."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene

LOOSE = (
    *("--points-per-side", "8", "--pred-iou-thresh", "0", "--stability-score-thresh", "0"),
    *("--box-nms-thresh", "0.9", "--mask-nms-thresh", "1", "--containment-thresh", "1"),
)


def test_parts_name_their_whole_in_every_format(
    cli: Callable[..., Any], some: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / name for name in ("masks", "masks.json", "masks.parquet")]
    for out in outs:
        assert cli("generate", some, "--out", out, *LOOSE).code == 0
    # Once more with an image less: what is there is read and written again, its masks too.
    (some / "below" / "first.png").unlink()
    for out in outs:
        assert cli("generate", some, "--out", out, *LOOSE).code == 0
    by_image: list[list[Any]] = []
    for path in sorted(outs[0].rglob("*.json")):
        by_image.append(json.loads(path.read_bytes())["annotations"])
    pairs = sorted(
        (len(a), a[p["part_of"] - 1]["area"], p["area"])
        for a in by_image
        for p in a
        if p["part_of"]
    )
    assert len(pairs) > 5
    assert all(whole > part for _, whole, part in pairs)
    document = json.loads(outs[1].read_bytes())["annotations"]
    sizes = Counter(each["image_id"] for each in document)
    areas = {each["id"]: (each["image_id"], each["area"]) for each in document}
    found = [(areas[p["part_of"]], p) for p in document if p["part_of"]]
    assert all(image_id == part["image_id"] for (image_id, _), part in found)
    assert pairs == sorted((sizes[i], area, part["area"]) for (i, area), part in found)
    rows = pq.read_table(outs[2]).to_pylist()
    numbered = {(row["file_name"], row["number"]): row for row in rows}
    sizes = Counter(row["file_name"] for row in rows)
    assert pairs == sorted(
        (sizes[row["file_name"]], numbered[row["file_name"], row["part_of"]]["area"], row["area"])
        for row in rows
        if row["part_of"]
    )


def test_each_pixel_in_one_mask_and_points_of_ones_own(
    cli: Callable[..., Any], some: Path, tmp_path: Path
) -> None:
    grid = tmp_path / "grid.json"
    grid.write_text(json.dumps([[[0.25, 0.5], [0.75, 0.5], [0.5, 0.25]]]))
    out = tmp_path / "masks"
    said = cli(
        *("generate", some, "--out", out, *LOOSE, "--overlaps", "smallest"),
        *("--point-grids", grid, "--uncovered-points-per-side", "2"),
    )
    assert said.code == 0, said.err
    for path in out.glob("*.json"):
        annotations = json.loads(path.read_bytes())["annotations"]
        codes = [
            rle.Rle(tuple(a["segmentation"]["size"]), a["segmentation"]["counts"])
            for a in annotations
        ]
        assert rle.decode(codes).sum(axis=0).max() == 1
        assert len({tuple(a["point_coords"][0]) for a in annotations}) <= 3 + 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "--point-grids: .*No such file"),
        ("[", "--point-grids: .*must be JSON such as"),
        ("[[0.5, 0.5]]", "--point-grids: .*must be JSON such as"),
        ("[[[0.5, 2]]]", "--point-grids: must be points .* but got \\[0.5, 2.0\\] in grid 0"),
        ("[[[0.5, 0.5]], [[0.5, 0.5]]]", "--point-grids: must be one for the image"),
    ],
)
def test_points_that_are_none(
    cli: Callable[..., Any], some: Path, tmp_path: Path, content: str | None, words: str
) -> None:
    grid = tmp_path / "grid.json"
    if content is not None:
        grid.write_text(content)
    said = cli(
        *("generate", some, "--out", tmp_path / "masks"),
        *("--point-grids", grid, "--crop-n-layers", "0"),
    )
    assert said.code == 2
    assert re.search(words, said.err)


@pytest.mark.slow
def test_a_large_image_is_done_within_four_gigabytes(tmp_path: Path) -> None:
    style = SceneStyle(subject="kinds", hw=(900, 1200), num_objects=(8, 8), radius=(60.0, 150.0))
    scene = draw_scene(3, style)
    large = np.repeat(np.repeat(scene.image, 10, axis=0), 10, axis=1)
    assert large.shape[:2] == (9000, 12000)
    Image.fromarray(large).save(tmp_path / "large.jpg", quality=90)
    del large
    command = [Path(sys.executable).with_name("maskloop"), "generate", "large.jpg"]
    child = subprocess.Popen([*command, "--out", "masks.json"], cwd=tmp_path)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    assert usage.ru_maxrss < 4 * 2**20, "in KiB"
    areas = [a["area"] for a in json.loads((tmp_path / "masks.json").read_text())["annotations"]]
    assert max(areas) > 10**5
