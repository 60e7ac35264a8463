"""Drawn images with exact truth, workspaces made once and copied, and a recipe for seconds."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from engine import coco, images, rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.generation.config import GenerationConfig
from engine.metrics.config import EvaluationConfig
from engine.training.config import TrainingConfig
from flows import workspace as workspaces
from flows.intake.coco_import import ImportOptions, import_coco
from flows.intake.rows import IntakeReport
from flows.recipes import AssistConfig, Recipe, recipe_named
from flows.settings import FILE_NAME, WORKSPACE_VERSION
from flows.settings_template import TEMPLATE
from flows.store_settings import StoreSettings
from flows.workspace import Workspace
from storage.catalog.lake import Lake
from storage.queue.database import Database
from storage.queue.schema import metadata
from storage.rows import ROWS
from storage.s3.client import S3Config, client

# Where Prefect was imported before a command ran, it starts a server of its own and waits 20 s for
# it, which a busy machine may need longer for.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

STYLE = SceneStyle(subject="kinds", hw=(96, 128), num_objects=(2, 4), radius=(12.0, 22.0))
NUM_SCENES = 12


@dataclass(frozen=True)
class Drawn:
    """A folder of pictures and the COCO file with their exact masks."""

    folder: Path
    truth: Path

    @property
    def document(self) -> dict[str, Any]:
        """The COCO file, to be changed and written elsewhere."""
        return dict(json.loads(self.truth.read_text()))

    @property
    def names(self) -> list[str]:
        """File names of all pictures."""
        return sorted(path.name for path in self.folder.iterdir())


Draw = Callable[[Path, int], Drawn]


def draw_scenes(root: Path, num_scenes: int) -> Drawn:
    """Scenes 1 to `num_scenes`, the same ones each time."""
    folder = root / "pictures"
    folder.mkdir()
    entries: list[coco.CocoImage] = []
    masks: list[coco.CocoMask] = []
    for number in range(1, num_scenes + 1):
        scene = draw_scene(number, STYLE)
        name = f"scene-{number:02d}.png"
        (folder / name).write_bytes(images.encode_png(scene.image))
        height, width = STYLE.hw
        entries.append(coco.CocoImage(id=number, file_name=name, height=height, width=width))
        masks += [
            coco.CocoMask(
                id=1000 * number + index, image_id=number, category=kind, rle=mask, is_crowd=False
            )
            for index, (mask, kind) in enumerate(
                zip(rle.encode(scene.masks), scene.kinds, strict=True)
            )
        ]
    kinds = sorted({mask.category for mask in masks if mask.category})
    truth = root / "truth.json"
    document = coco.document(entries, masks, dict(enumerate(kinds, start=1)), {})
    truth.write_text(json.dumps(document))
    return Drawn(folder, truth)


@pytest.fixture
def draw() -> Draw:
    """Draws more images than the others need."""
    return draw_scenes


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw_scenes(tmp_path_factory.mktemp("drawn"), NUM_SCENES)


@pytest.fixture
def pictures(drawn: Drawn, tmp_path: Path) -> Path:
    """A copy of the drawn images, to be spoiled."""
    return Path(shutil.copytree(drawn.folder, tmp_path / "pictures"))


@pytest.fixture(scope="session")
def empty_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty workspace, made once and copied: making one takes a second."""
    root = tmp_path_factory.mktemp("empty") / "workspace"
    workspaces.create(root).close()
    return root


Copied = Callable[[Path, Path], AbstractContextManager[Workspace]]


@pytest.fixture(scope="session")
def copied() -> Copied:
    """Opens a copy of a workspace, and closes it."""

    @contextmanager
    def open_copy(root: Path, to: Path) -> Iterator[Workspace]:
        shutil.copytree(root, to)
        with closing(workspaces.open_workspace(to)) as opened:
            yield opened

    return open_copy


@pytest.fixture
def workspace(empty_root: Path, tmp_path: Path, copied: Copied) -> Iterator[Workspace]:
    """An empty workspace in a folder of its own."""
    with copied(empty_root, tmp_path / "workspace") as opened:
        yield opened


GOLD = ("scene-01.png", "scene-02.png", "scene-03.png")


@pytest.fixture(scope="session")
def filled_root(
    empty_root: Path, drawn: Drawn, copied: Copied, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The drawn images imported: three gold ones, about half of the others labelled."""
    root = tmp_path_factory.mktemp("filled") / "workspace"
    with copied(empty_root, root) as opened:
        fill(opened, drawn)
    return root


def fill(opened: Workspace, drawn: Drawn) -> None:
    gold_list = opened.root.parent / "gold.txt"
    gold_list.write_text("\n".join(GOLD))
    options = ImportOptions(labelled=0.5, gold_list=gold_list)
    import_coco(opened, drawn.truth, drawn.folder, options, lambda _done, _total: None)


Filled = Callable[[], AbstractContextManager[Workspace]]


@pytest.fixture(scope="session")
def filled_here(
    filled_root: Path, copied: Copied, tmp_path_factory: pytest.TempPathFactory
) -> Filled:
    """Opens a workspace of its own with the drawn images at each call, its store in the folder."""
    return lambda: copied(filled_root, tmp_path_factory.mktemp("here") / "workspace")


@pytest.fixture(scope="session")
def filled_team(
    drawn: Drawn, postgres: Any, s3_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Filled:
    """The same with its store in a bucket and a database of its own."""

    @contextmanager
    def open_team() -> Iterator[Workspace]:
        root = tmp_path_factory.mktemp("team") / "workspace"
        root.mkdir()
        name = root.parent.name
        endpoint = s3_server.endpoint_url
        client(S3Config(endpoint_url=endpoint)).create_bucket(Bucket=name)
        (root / FILE_NAME).write_text(
            TEMPLATE.format(version=WORKSPACE_VERSION)
            .replace('data = ""', f'data = "s3://{name}/store"')
            .replace('catalog = ""', f'catalog = "{postgres.create(name)}"')
            .replace('endpoint = ""', f'endpoint = "{endpoint}"')
        )
        with closing(workspaces.create(root)) as opened:
            fill(opened, drawn)
            yield opened

    return open_team


@pytest.fixture
def filled(filled_root: Path, tmp_path: Path, copied: Copied) -> Iterator[Workspace]:
    """A workspace with the drawn images."""
    with copied(filled_root, tmp_path / "filled") as opened:
        yield opened


@pytest.fixture
def team(postgres: Any, s3_server: Any, tmp_path: Path) -> StoreSettings:
    """A new bucket and a new database, for a store that moves."""
    name = f"moved{os.getpid()}x{abs(hash(str(tmp_path)))}"
    endpoint = s3_server.endpoint_url
    client(S3Config(endpoint_url=endpoint)).create_bucket(Bucket=name)
    return StoreSettings(
        data=f"s3://{name}/store", catalog=postgres.create(name), endpoint=endpoint
    )


@pytest.fixture(scope="session")
def everything() -> Callable[[Lake], dict[int, dict[str, list[str]]]]:
    """Every row of every table and the view at every snapshot."""
    names = [*(row.table for row in ROWS), "current_masks"]
    # At once: each look at an earlier snapshot attaches it.
    sql = " UNION ALL ".join(
        f"SELECT '{name}' AS of, CAST(each AS VARCHAR) AS row FROM {name} AS each" for name in names
    )

    def read(lake: Lake) -> dict[int, dict[str, list[str]]]:
        found: dict[int, dict[str, list[str]]] = {}
        for snapshot in range(1, lake.snapshot() + 1):
            found[snapshot] = {name: [] for name in names}
            for row in lake.rows(f"{sql} ORDER BY ALL", snapshot=snapshot):
                found[snapshot][row["of"]].append(row["row"])
        return found

    return read


@pytest.fixture(scope="session")
def queue_rows() -> Callable[[Database], dict[str, list[str]]]:
    """Every row of every table of a review queue."""

    def read(database: Database) -> dict[str, list[str]]:
        with database.read() as connection:
            return {
                table.name: sorted(map(str, connection.execute(select(table)).mappings()))
                for table in metadata.sorted_tables
            }

    return read


Import = Callable[..., IntakeReport]


@pytest.fixture
def bring(workspace: Workspace, drawn: Drawn) -> Import:
    """Import a COCO file with the drawn images; options as keywords."""

    def call(
        annotations: Path | None = None, folder: Path | None = None, **options: Any
    ) -> IntakeReport:
        return import_coco(
            workspace,
            annotations or drawn.truth,
            folder or drawn.folder,
            ImportOptions(**options),
            lambda _done, _total: None,
        )

    return call


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """A stage in a second or two; the numbers it gives mean nothing."""
    grid = GenerationConfig(points_per_side=4)
    return replace(
        recipe_named("quick"),
        training=TrainingConfig(
            steps=2, warmup_steps=1, batch_images=1, masks_per_image=2, checkpoint_every=1
        ),
        evaluation=EvaluationConfig(max_images=2, max_masks_per_image=1, max_clicks=9),
        evaluation_generation=grid,
        assist=AssistConfig(
            num_images=2, pool=3, generation=grid, withhold=0.0, gold=0.0, second=0.0
        ),
        generation=grid,
    )


TABLES = (
    "images",
    "masks",
    "mask_labels",
    "runs",
    "reviews",
    "decisions",
    "clicks",
    "suppressions",
)


@pytest.fixture(scope="session")
def contents() -> Callable[[Workspace], dict[str, list[str]]]:
    """Every row of the main tables as text: equal stores give equal ones."""

    def read(workspace: Workspace) -> dict[str, list[str]]:
        return {
            table: sorted(str(row) for row in workspace.lake.rows(f"SELECT * FROM {table}"))
            for table in TABLES
        }

    return read


@pytest.fixture(scope="session")
def near_duplicate() -> Callable[[Path, Path], Path]:
    """Writes the same picture in other bytes: one pixel is a little different."""

    def write(source: Path, target: Path) -> Path:
        pixels = np.array(Image.open(source))
        pixels[0, 0] ^= 1
        target.write_bytes(images.encode_png(pixels))
        return target

    return write


@pytest.fixture
def at_home(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The filled workspace, which commands find by MASKLOOP_HOME."""
    monkeypatch.setenv("MASKLOOP_HOME", str(filled.root))
    return filled
