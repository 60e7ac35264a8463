"""`maskloop revoke`: all that descends is found, masks are retired at once, images asked again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.errors import UsageError
from flows.lineage.descent import Target, descendants
from flows.lineage.revoking import blast_radius, revoke
from flows.models import serving
from flows.training.labels import training_labels
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, open_workspace
from storage.rows import TrainingSetRow, mask_id

PROJECT = Path(__file__).parents[3]
ADA = Target(kind="annotator", name="ada")


def rows(workspace: Workspace, sql: str) -> list[dict[str, Any]]:
    return workspace.lake.rows(sql)


def current(workspace: Workspace, names: dict[str, str]) -> set[str]:
    return {names[row["mask_id"]] for row in rows(workspace, "SELECT mask_id FROM current_masks")}


def slowly(workspace: Workspace, own: set[str], first: set[str]) -> set[str]:
    """Versions with `own` masks or versions of `first` in their line, by going over and over."""
    models = rows(workspace, "SELECT version, parent FROM model_versions")
    helped = {
        row["mask_id"]: row["model_version"]
        for row in rows(workspace, "SELECT mask_id, model_version FROM masks")
    }
    sets = rows(workspace, "SELECT version, mask_ids FROM training_sets")
    found, before = set(first), None
    while before != found:
        before = set(found)
        found |= {row["version"] for row in models if row["parent"] in found}
        for row in sets:
            learnt = set(row["mask_ids"])
            if learnt & own or {helped[name] for name in learnt} & found:
                found.add(row["version"])
    return found


TARGETS: dict[str, tuple[Target, str, set[str]]] = {
    "an annotator": (ADA, "annotator = 'ada'", set()),
    "another": (Target(kind="annotator", name="bob"), "annotator = 'bob'", set()),
    "a model": (
        Target(kind="model", name="v3"),
        "stage = 'auto' AND model_version = 'v3'",
        {"v3"},
    ),
    "the first model": (
        Target(kind="model", name="v1"),
        "stage = 'auto' AND model_version = 'v1'",
        {"v1"},
    ),
    "a merge": (Target(kind="run", name="merge3"), "run_id = 'merge3'", set()),
    "a training": (
        Target(kind="run", name="train2"),
        "stage = 'auto' AND model_version = 'v3'",
        {"v3"},
    ),
}


@pytest.mark.parametrize(("target", "own", "first"), TARGETS.values(), ids=TARGETS)
def test_what_descends_is_what_a_slow_look_finds(
    looked_at: Any, target: Target, own: str, first: set[str]
) -> None:
    workspace = looked_at.workspace
    masks = {row["mask_id"] for row in rows(workspace, f"SELECT mask_id FROM masks WHERE {own}")}
    versions = slowly(workspace, masks, first)
    blast = blast_radius(workspace, target)
    assert sum(row["num_masks"] for row in blast.masks) == len(masks)
    assert {row["version"] for row in blast.models} == versions
    later = rows(workspace, "SELECT mask_id, model_version FROM masks")
    made = {row["mask_id"] for row in later if row["model_version"] in versions} - masks
    assert sum(row["num_masks"] for row in blast.later_masks) == len(made)
    [export] = rows(workspace, "SELECT snapshot FROM exports")
    written = workspace.lake.rows("SELECT mask_id FROM current_masks", snapshot=export["snapshot"])
    affected = {row["mask_id"] for row in written} & (masks | made)
    assert sum(row["num_masks"] for row in blast.exports) == len(affected)
    assert blast.serving == ("v4" if "v4" in versions else None)
    assert blast.sound == next((v for v in ("v3", "v2", "v1") if v not in versions), None)


def test_times_limit_what_is_meant(turned: Any, names: dict[str, str]) -> None:
    [second] = rows(
        turned.workspace, f"SELECT created_at AS at FROM masks WHERE mask_id = '{mask_id('ada2')}'"
    )
    moment = timedelta(microseconds=1)
    only = Target(kind="annotator", name="ada", since=second["at"], until=second["at"] + moment)
    assert [row["num_masks"] for row in blast_radius(turned.workspace, only).masks] == [1]
    assert [row["version"] for row in descendants(turned.workspace.lake, only)] == ["v3", "v4"]
    revoke(turned.workspace, only)
    assert {"ada3", "over"} <= current(turned.workspace, names)
    assert "ada2" not in current(turned.workspace, names)


def test_masks_and_models_are_retired_in_one_commit(turned: Any, names: dict[str, str]) -> None:
    workspace = turned.workspace
    before, standing = workspace.lake.snapshot(), current(workspace, names)
    outcome = revoke(workspace, ADA)
    assert (outcome.num_masks, outcome.models, outcome.num_images) == (3, ("v2", "v3", "v4"), 2)
    # One commit retires, one closes the run.
    assert workspace.lake.snapshot() == before + 2
    [between] = workspace.lake.rows(
        "SELECT count(*) AS n FROM retractions WHERE cause = 'annotator ada'", snapshot=before + 1
    )
    assert between["n"] == 3
    assert current(workspace, names) == standing - {"ada2", "ada3"}
    assert len(rows(workspace, "SELECT * FROM masks")) == len(names)
    status = {row["version"]: row for row in rows(workspace, "SELECT * FROM model_lineage")}
    assert [status[name]["status"] for name in ("v1", "v2", "v3", "v4")] == [
        "retired",
        "retired",
        "retired",
        "promoted",
    ]
    assert [status[name]["descends_from_revoked"] for name in ("v1", "v2", "v3", "v4")] == [
        False,
        True,
        True,
        True,
    ]
    [run] = rows(workspace, "SELECT status, num_masks FROM runs WHERE stage = 'revoke'")
    assert run == {"status": "done", "num_masks": 3}
    assert fsck(workspace) == []


def test_people_are_asked_to_settle_what_still_stands(turned: Any) -> None:
    workspace = turned.workspace
    revoke(workspace, ADA)
    waiting = {item.image_id: item for item in workspace.queue.ready_items(["dispute"])}
    # On a1, bob's mask had replaced ada's: nothing changed there.
    assert set(waiting) == {"a2", "a3"}
    item = workspace.queue.item(waiting["a2"].item_id)
    assert [each["proposal_id"] for each in item.payload["proposals"]] == [mask_id("bob2")]
    assert (item.model_version, item.not_for, item.for_role) == ("v4", "ada", None)
    assert workspace.queue.claim("ada") is None
    lease = workspace.queue.claim("bob")
    assert lease is not None


def test_it_trains_nothing_later_and_its_images_are_incomplete(
    turned: Any, insert: Callable[..., None]
) -> None:
    workspace = turned.workspace
    revoke(workspace, ADA)
    labels = training_labels(workspace, workspace.lake.snapshot())
    learnt = {name for image in labels.images for name in image.mask_ids}
    assert learnt == {mask_id(name) for name in ("label", "over", "bob1", "bob2", "bob3")}
    assert {"a2", "a3"} <= {image.image_id for image in labels.images if not image.complete}
    later = TrainingSetRow(version="v9", image_id="a2", num_masks=1, mask_ids=[mask_id("ada2")])
    workspace.lake.commit(
        lambda tx: tx.execute(
            "INSERT INTO model_versions "
            "SELECT * REPLACE ('v9' AS version, 999 AS training_snapshot) FROM model_versions "
            "WHERE version = 'v4'"
        ),
        message="spoilt",
    )
    insert(workspace, later)
    messages = {(breach.invariant, breach.message) for breach in fsck(workspace)}
    words = "was revoked (annotator ada), and v9 was trained on it after that"
    assert ("retired", words) in messages


def test_again_it_changes_nothing_until_there_is_more(turned: Any) -> None:
    workspace = turned.workspace
    revoke(workspace, ADA)
    before = rows(workspace, "SELECT * FROM retractions ORDER BY mask_id")
    again = revoke(workspace, ADA)
    assert (again.run_id, again.num_masks, again.models, again.num_images) == (None, 0, (), 0)
    assert rows(workspace, "SELECT * FROM retractions ORDER BY mask_id") == before
    serving.promote(workspace, "v1", reason="sound")
    assert revoke(workspace, ADA).models == (), "v4 was marked while it served"
    assert blast_radius(workspace, ADA).serving is None


def test_what_was_revoked_serves_again_only_when_told(
    turned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = turned.workspace
    monkeypatch.setenv("MASKLOOP_HOME", str(workspace.root))

    def models(*words: str) -> str:
        result = CliRunner().invoke(app, ["models", *words])
        return result.stdout if result.exit_code == 0 else str(result.exception)

    revoke(workspace, ADA)
    for words in (("rollback",), ("promote", "v2")):
        assert models(*words) == (
            f"models {words[0]}: {'v3' if words == ('rollback',) else 'v2'} was revoked, or has "
            "revoked masks in its line; run: maskloop models promote v1; "
            f"or models {words[0]} with --even-revoked"
        )
        assert serving.current_version(workspace) == "v4"
    assert models("promote", "v1") == "v1 serves\n"
    assert "v4 was revoked" in models("rollback"), "it is the one before v1 now"
    assert models("rollback", "--even-revoked") == "v4 serves\n"
    assert models("promote", "v2", "--even-revoked") == "v2 serves\n"


def test_automatic_masks_go_with_their_model(turned: Any, names: dict[str, str]) -> None:
    workspace = turned.workspace
    outcome = revoke(workspace, Target(kind="model", name="v4"))
    assert (outcome.num_masks, outcome.models, outcome.num_images) == (1, ("v4",), 0)
    assert serving.current_version(workspace) == "v4", "until people put another in its place"
    assert "auto3" not in current(workspace, names)
    assert "ada3" in current(workspace, names)


@pytest.mark.parametrize("point", ["revoke.after_commit", "revoke.after_queue"])
def test_killed_in_between_the_same_command_finishes_it(turned: Any, point: str) -> None:
    workspace = turned.workspace
    command = [sys.executable, "-m", "flows.cli.app", "revoke", "--annotator", "ada", "--apply"]
    where = {**os.environ, "MASKLOOP_HOME": str(workspace.root)}
    killed = subprocess.run(
        command,
        env={**where, "MASKLOOP_FAILPOINT": point},
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == 137, killed.stderr
    opened = open_workspace(workspace.root)
    kept = rows(opened, "SELECT * FROM retractions ORDER BY mask_id")
    assert len(kept) == 3
    assert {row["status"] for row in rows(opened, "SELECT status FROM runs")} == {
        "done",
        "running",
    }
    outcome = revoke(opened, ADA)
    assert outcome.num_images == (2 if point == "revoke.after_commit" else 0)
    assert {item.image_id for item in opened.queue.ready_items(["dispute"])} == {"a2", "a3"}
    assert rows(opened, "SELECT * FROM retractions ORDER BY mask_id") == kept
    assert {row["status"] for row in rows(opened, "SELECT status FROM runs")} == {"done"}
    assert fsck(opened) == []


def test_who_is_unknown_is_told(looked_at: Any) -> None:
    for kind in ("annotator", "model", "run"):
        with pytest.raises(UsageError, match=f"--{kind}: the store has none named 'x'"):
            blast_radius(looked_at.workspace, Target(kind=kind, name="x"))  # type: ignore[arg-type]


def test_the_command_shows_first_and_applies_when_told(
    turned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLOOP_HOME", str(turned.workspace.root))
    shown = CliRunner().invoke(app, ["revoke", "--annotator", "ada"])
    assert shown.exit_code == 0, shown.output
    assert "nothing is changed; --apply retires" in shown.stdout
    assert "stays; run: maskloop models promote v1, then maskloop generate" in shown.stdout
    assert rows(turned.workspace, "SELECT * FROM retractions") == []
    done = CliRunner().invoke(app, ["revoke", "--annotator", "ada", "--apply", "--json"])
    value = json.loads(done.stdout)
    assert (value["cause"], value["applied"]["num_masks"]) == ("annotator ada", 3)
    for wrong, words in (
        ([], "give one of --annotator, --model and --run"),
        (["--annotator", "ada", "--model", "v1"], "give one of"),
        (["--run", "merge1", "--since", "2026-02-01", "--until", "2026-01-01"], "--until"),
    ):
        assert words in str(CliRunner().invoke(app, ["revoke", *wrong]).exception)
