"""Real microscopy in, the same masks out."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from flows.exporting import export_coco
from flows.intake.coco_import import ImportOptions, import_coco
from flows.upkeep.checking import fsck
from flows.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    # pycocotools 2.0.11 still hands numpy 2 an array without the new keyword.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def by_file(path: Path) -> dict[str, set[bytes]]:
    """File name -> its masks as pixels, read by pycocotools."""
    coco = COCO(str(path))
    found: dict[str, set[bytes]] = {}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        name = coco.loadImgs(annotation["image_id"])[0]["file_name"]
        pixels = np.asarray(coco_mask.decode(coco.annToRLE(annotation)), dtype=bool)
        found.setdefault(Path(name).name, set()).add(np.packbits(pixels).tobytes())
    return found


def test_nuclei_come_in_and_go_out_pixel_by_pixel(
    workspace: Workspace, data_dir: Path, tmp_path: Path
) -> None:
    annotations = data_dir / "nuclei" / "annotations.json"
    options = ImportOptions(labelled=0.1, gold=0.2, seed=0)
    report = import_coco(
        workspace, annotations, data_dir / "nuclei" / "images", options, lambda *_: None
    )
    assert report.problems == ()
    assert report.num_new == len(json.loads(annotations.read_text())["images"])
    assert 0.15 < report.num_gold / report.num_new < 0.25
    assert 0.05 < report.num_labelled / report.num_new < 0.15
    assert fsck(workspace) == []

    export_coco(workspace, tmp_path / "out.json")
    wanted, found = by_file(annotations), by_file(tmp_path / "out.json")
    assert len(found) == report.num_gold + report.num_labelled
    assert all(found[name] == wanted[name] for name in found)

    again = import_coco(
        workspace, annotations, data_dir / "nuclei" / "images", options, lambda *_: None
    )
    assert again.repeated
