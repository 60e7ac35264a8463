"""A generation whose workers and whose driver are killed, again and again."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from engine import images
from engine.drawing.scenes import SceneStyle, draw_scene
from flows import workspace as workspaces
from flows.generation.generate import generate_stage
from flows.intake.adding import add_images
from flows.progress import Silent
from flows.recipes import RECIPES
from flows.settings import WorkerSettings
from flows.upkeep.checking import fsck

PROJECT = Path(__file__).parents[3]
NUM_IMAGES = 100
STYLE = SceneStyle(subject="shapes", hw=(64, 64), num_objects=(2, 4), radius=(6.0, 16.0))
VICTIMS = ["worker"] * 16 + ["driver"] * 4
_MARK = "MASKLOOP_TEST_RUN"

_QUICK = RECIPES["quick"]
RECIPE = replace(_QUICK, shard_size=2, generation=replace(_QUICK.generation, points_per_side=4))

GENERATE = """
import pickle, sys
from dataclasses import replace
from flows.generation.generate import generate_stage
from flows.progress import Silent
from flows.settings import WorkerSettings
from flows.workspace import open_workspace
root, recipe = pickle.load(sys.stdin.buffer)
workspace = open_workspace(root)
two = replace(workspace.settings, workers=WorkerSettings(kind="ray", count=2))
generate_stage(replace(workspace, settings=two), recipe, Silent())
"""


class Job:
    """`generate` in a process of its own, with a Ray of its own."""

    def __init__(self, root: Path) -> None:
        self._mark = f"{_MARK}={uuid.uuid4()}"
        name, value = self._mark.split("=")
        environment = {**os.environ, name: value, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-c", GENERATE]
        self.driver = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, cwd=PROJECT)
        assert self.driver.stdin is not None
        with self.driver.stdin as told:
            told.write(pickle.dumps((root, RECIPE)))

    def workers(self) -> list[int]:
        """The processes that label now."""
        return [pid for pid, name in self._processes() if name.startswith(b"ray::ShardLabeller")]

    def end(self) -> None:
        """Kill the driver, and Ray, which would go by itself a moment later."""
        self.driver.kill()
        self.driver.wait()
        for pid, _ in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _processes(self) -> list[tuple[int, bytes]]:
        """Number and command line of all that came of this job."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((int(folder.name), (folder / "cmdline").read_bytes()))
        return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_leave_each_image_done_once(tmp_path: Path) -> None:
    opened = workspaces.create(tmp_path / "workspace")
    added = 0

    def add(num: int) -> None:
        nonlocal added
        folder = tmp_path / f"images from {added}"
        folder.mkdir()
        for number in range(added, added + num):
            picture = images.encode_png(draw_scene(number, STYLE).image)
            (folder / f"{number:03}.png").write_bytes(picture)
        report = add_images(opened, [str(folder)], strict=True, progress=lambda *_: None)
        assert report.num_new == num
        added += num

    add(NUM_IMAGES)
    chance = random.Random(5)
    victims = chance.sample(VICTIMS, len(VICTIMS))
    job = Job(opened.root)
    try:
        while victims:
            if job.driver.poll() is not None:
                assert job.driver.returncode == 0
                # A fast machine, and kills to go.
                add(NUM_IMAGES)
                job = Job(opened.root)
            time.sleep(chance.uniform(0.3, 1.2))
            workers = job.workers()
            if not workers:
                continue
            if victims.pop() == "driver":
                job.end()
                job = Job(opened.root)
            else:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
        assert job.driver.wait(timeout=900) == 0
    finally:
        job.end()

    opened.lake.close()
    opened = workspaces.open_workspace(opened.root)
    # What a run gave up, because its workers died too often, is the next one's.
    here = replace(opened.settings, workers=WorkerSettings(kind="local"))
    generate_stage(replace(opened, settings=here), RECIPE, Silent())
    sets = opened.lake.rows(
        "SELECT count(*) AS sets, count(DISTINCT image_id) AS images FROM image_sets"
    )[0]
    assert sets == {"sets": added, "images": added}
    doubled = opened.lake.rows("SELECT mask_id FROM masks GROUP BY 1 HAVING count(*) > 1")
    assert doubled == []
    assert fsck(opened) == []
