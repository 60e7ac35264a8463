"""A user's generation on a store in S3 while the network fails, and once more when it is well."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows import workspace as workspaces
from flows.errors import StageError
from flows.generation.generate import generate_stage
from flows.intake.adding import add_images
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import FILE_NAME, WORKSPACE_VERSION, WorkerSettings
from flows.settings_template import TEMPLATE
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, open_workspace
from storage.errors import StorageError
from storage.s3.client import client
from storage.s3.config import S3Config

pytestmark = [pytest.mark.s3, pytest.mark.slow]
BUCKET = "outages"
# Not the black hole: a user's patience is 20 s.
KINDS = (
    "busy",
    "failing",
    "forbidden",
    "missing",
    "reset",
    "reset midway",
    "cut",
    "cut head",
    "cut upload",
    "lost",
    "slow",
)


def opened_here(root: Path) -> Workspace:
    """The workspace as a new command opens it, with its workers in this process."""
    opened = open_workspace(root)
    workers = replace(opened.settings, workers=WorkerSettings(kind="local"))
    return replace(opened, settings=workers)


def generate(root: Path, recipe: Recipe) -> str:
    """One run of the command; what it said, empty when it went to its end."""
    workspace = None
    try:
        workspace = opened_here(root)
        generate_stage(workspace, recipe, Silent())
    except (StageError, StorageError) as error:
        return str(error)
    finally:
        if workspace is not None:
            workspace.close()
    return ""


@pytest.fixture
def root(faulty_s3: Any, s3_server: Any, drawn: Any, tmp_path: Path) -> Path:
    """A workspace with its store in S3 behind the proxy, and the drawn images added."""
    client(S3Config(endpoint_url=s3_server.endpoint_url)).create_bucket(Bucket=BUCKET)
    (tmp_path / FILE_NAME).write_text(
        TEMPLATE.format(version=WORKSPACE_VERSION)
        .replace('data = ""', f'data = "s3://{BUCKET}/store"')
        .replace('endpoint = ""', f'endpoint = "{faulty_s3.endpoint_url}"', 1)
    )
    made = workspaces.create(tmp_path)
    add_images(made, [str(drawn.folder)], strict=True, progress=lambda *_: None)
    made.close()
    return tmp_path


def test_a_generation_ends_or_says_why_and_is_finished_by_the_same_command(
    root: Path, drawn: Any, faulty_s3: Any, recipe: Recipe
) -> None:
    small = replace(recipe, shard_size=2)
    faulty_s3.fail_by_chance(0.35, KINDS, seed=3)
    said = [generate(root, small) for _ in range(3)]
    faulty_s3.heal()
    assert "\n" not in "".join(said)
    assert len({kind for kind, _ in faulty_s3.struck}) > len(KINDS) // 2
    assert generate(root, small) == ""
    after = opened_here(root)
    sets = after.lake.rows(
        "SELECT count(*) AS sets, count(DISTINCT image_id) AS images FROM image_sets"
    )
    assert sets == [{"sets": len(drawn.names), "images": len(drawn.names)}]
    assert after.lake.rows("SELECT mask_id FROM masks GROUP BY 1 HAVING count(*) > 1") == []
    assert fsck(after) == []
    after.close()
