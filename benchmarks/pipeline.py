"""What it costs that generation is a pipeline: Prefect, Ray, shards and commits.

`python benchmarks/pipeline.py [--json] [--quick] [--images N] [--scaling-images M]`. The command
`maskloop generate` labels N images of nuclei, and a bare loop in one process, as many images side
by side as there are cores, labels the same with the same model. What Prefect and Ray take to start
is what the command takes for two images beyond the loop's share of them. `overhead` is what is
beyond that; `two_workers_over_one` compares two actors, one thread each, with one, without the
start as well.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from real_data import data_folder, require

from engine import images
from engine.generation.generator import MaskGenerator
from engine.model import weights
from engine.model.predictor import Predictor
from engine.threads import each_image
from flows import workspace as workspaces
from flows.intake.adding import add_images
from flows.recipes import NANO
from flows.settings import FILE_NAME


def bare_loop(paths: list[Path]) -> float:
    """Seconds for all images, decoding included, the model loaded."""
    model, _ = weights.load(weights.shipped())
    predictor = Predictor(model, version="benchmark")
    generator = MaskGenerator(predictor, NANO.generation)

    def label(number: int) -> int:
        return len(generator.generate(images.decode(paths[number].read_bytes()).pixels).masks)

    began = time.perf_counter()
    list(each_image(label, range(len(paths)), at_once=predictor.images_at_once))
    return time.perf_counter() - began


def pipeline(paths: list[Path], *, workers: int) -> float:
    """Seconds that `maskloop generate` takes for all images, from its first line to its last."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "workspace"
        opened = workspaces.create(root)
        add_images(opened, [str(path) for path in paths], strict=True, progress=lambda *_: None)
        opened.lake.close()
        settings = root / FILE_NAME
        settings.write_text(settings.read_text().replace("count = 0 ", f"count = {workers} "))
        command = [str(Path(sys.executable).with_name("maskloop")), "generate", "--json"]
        began = time.perf_counter()
        done = subprocess.run(
            command, env={**os.environ, "MASKLOOP_HOME": str(root)}, check=True, stdout=-1
        )
        seconds = time.perf_counter() - began
        assert json.loads(done.stdout)["num_images"] == len(paths)
    return seconds


def measured(paths: list[Path], scaling: list[Path]) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    loop_s = bare_loop(paths)
    few_s = {workers: pipeline(paths[:2], workers=workers) for workers in (1, cores)}
    whole_s = pipeline(paths, workers=cores)
    start_s = few_s[cores] - 2 * loop_s / len(paths)
    some_s = {workers: pipeline(scaling, workers=workers) for workers in (1, cores)}
    beyond = {workers: some_s[workers] - few_s[workers] for workers in some_s}
    return {
        "images": len(paths),
        "loop_s": loop_s,
        "pipeline_s": whole_s,
        "start_s": start_s,
        "overhead": (whole_s - start_s) / loop_s - 1,
        "scaling_images": len(scaling),
        "one_worker_s": some_s[1],
        "two_workers_s": some_s[cores],
        "two_workers_over_one": beyond[1] / beyond[cores],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a few images")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--scaling-images", type=int, default=60)
    options = parser.parse_args()
    require("nuclei", quick=options.quick)
    paths = sorted((data_folder() / "nuclei" / "images").iterdir())[
        : 8 if options.quick else options.images
    ]
    result = measured(paths, paths[: 6 if options.quick else options.scaling_images])
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24}{value:10.2f}" if isinstance(value, float) else f"{name:24}{value:10}")


if __name__ == "__main__":
    main()
