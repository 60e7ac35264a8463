"""Other thresholds out of kept candidates, beside generating again.

`python benchmarks/replay.py [--json] [--quick] [--images N]`. A workspace of N images of nuclei
keeps its candidates once; then each of three changes is replayed in one copy of it and generated in
another, as stages of one process. Masks are compared by their codes and scores.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from real_data import data_folder, require

from flows import workspace as workspaces
from flows.cli.terminal import terminal_progress
from flows.generation.generate import generate_stage
from flows.generation.replaying import replay_stage
from flows.intake.adding import add_images
from flows.progress import Progress
from flows.recipes import NANO, Recipe
from flows.settings import WorkerSettings
from flows.workspace import Workspace, open_workspace

CHANGES: tuple[dict[str, Any], ...] = (
    {"pred_iou_thresh": 0.6},
    {"pred_iou_thresh": 0.4, "stability_score_thresh": 0.6},
    {"box_nms_thresh": 0.7, "mask_nms_thresh": 1.0, "containment_thresh": 1.0},
)


def here(root: Path) -> Workspace:
    """A workspace whose shards this process labels."""
    opened = open_workspace(root)
    return replace(opened, settings=replace(opened.settings, workers=WorkerSettings(kind="local")))


def filled(root: Path, num_images: int) -> None:
    """A workspace at `root` with images of nuclei."""
    paths = sorted((data_folder() / "nuclei" / "images").iterdir())[:num_images]
    opened = workspaces.create(root)
    add_images(opened, [str(path) for path in paths], strict=True, progress=lambda *_: None)
    opened.lake.close()


def masks_of(opened: Workspace, recipe: Recipe) -> list[Any]:
    return opened.lake.rows(
        """SELECT image_id, segmentation.counts AS counts, predicted_iou, stability_score
           FROM masks WHERE config_hash = ? ORDER BY ALL""",
        (recipe.generation_key(),),
    )


def compared(
    root: Path, recipe: Recipe, changes: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """One change, replayed and generated, each in a copy of the workspace at `root`."""
    wanted = replace(recipe, generation=replace(recipe.generation, **changes))
    found = []
    stages: tuple[Callable[[Workspace], object], ...] = (
        lambda opened: replay_stage(opened, recipe, changes, progress),
        lambda opened: generate_stage(opened, wanted, progress),
    )
    for stage in stages:
        copy = root.with_name("copy")
        shutil.copytree(root, copy)
        opened = here(copy)
        began = time.perf_counter()
        stage(opened)
        found.append((time.perf_counter() - began, masks_of(opened, wanted)))
        opened.lake.close()
        shutil.rmtree(copy)
    (replayed_s, replayed), (generated_s, generated) = found
    return {
        "changes": changes,
        "masks": len(replayed),
        "identical": replayed == generated,
        "replayed_s": replayed_s,
        "generated_s": generated_s,
        "ratio": generated_s / replayed_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two images, one change")
    parser.add_argument("--images", type=int, default=40)
    options = parser.parse_args()
    require("nuclei", quick=options.quick)
    num_images = 2 if options.quick else options.images
    with tempfile.TemporaryDirectory() as folder, terminal_progress() as progress:
        root = Path(folder) / "kept"
        filled(root, num_images)
        opened = here(root)
        generate_stage(opened, replace(NANO, keep_candidates=True), progress)
        opened.lake.close()
        changes = CHANGES[:1] if options.quick else CHANGES
        rows = [compared(root, NANO, each, progress) for each in changes]
    result = {
        "images": num_images,
        "identical": all(row["identical"] for row in rows),
        "ratio": min(row["ratio"] for row in rows),
        "changes": rows,
    }
    if options.json:
        print(json.dumps(result))
        return
    for row in rows:
        print(
            f"{row['changes']}: {row['masks']} masks, "
            f"{'identical' if row['identical'] else 'DIFFERENT'}, "
            f"{row['replayed_s']:.2f} s against {row['generated_s']:.1f} s: {row['ratio']:.0f} x"
        )


if __name__ == "__main__":
    main()
