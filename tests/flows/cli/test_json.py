"""What scripts rely on: with --json, stdout is one JSON value and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.model import weights
from engine.model.registry import ModelConfig, build_model
from flows import recipes
from flows.recipes import Recipe
from flows.training import evaluation
from flows.workspace import Workspace

Cli = Callable[..., Any]


def value_of(said: Any) -> Any:
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_status(cli: Cli, at_home: Workspace) -> None:
    facts = value_of(cli("status", "--json"))
    assert facts["workspace"] == str(at_home.root)
    assert facts["images"]["gold"] == 3
    assert sum(facts["images"].values()) == 12
    assert facts["masks"].keys() == {"label"}
    assert facts["queue"] == {"ready": 0, "leased": 0, "done": 0, "dead": 0}
    assert facts["model"] is None
    assert [run["stage"] for run in facts["runs"]] == ["import"]


@pytest.mark.usefixtures("at_home")
def test_sql_gives_a_list_of_objects(cli: Cli) -> None:
    query = "SELECT split, count(*) AS n FROM images GROUP BY 1 ORDER BY 1"
    rows = value_of(cli("sql", query, "--format", "json"))
    assert rows[0] == {"split": "gold", "n": 3}
    assert value_of(cli("sql", "SELECT 1 AS a WHERE false", "--format", "json")) == []


@pytest.mark.usefixtures("at_home")
def test_sql_values_that_json_has_not(cli: Cli) -> None:
    query = (
        "SELECT 'nan'::DOUBLE AS nan, ['inf'::DOUBLE, 1.5] AS list, TIMESTAMP '2026-01-02' AS at, "
        "{'a': 1} AS struct, NULL AS nothing, 1 AS one, 2 AS one"
    )
    [row] = value_of(cli("sql", query, "--format", "json"))
    assert row == {
        "nan": None,
        "list": [None, 1.5],
        "at": "2026-01-02 00:00:00",
        "struct": {"a": 1},
        "nothing": None,
        "one": 1,
        "one_2": 2,
    }


@pytest.mark.usefixtures("at_home")
def test_sql_as_csv_and_as_a_table(cli: Cli) -> None:
    query = "SELECT '[red]x, \"y\"' AS text, 1 AS one, 2 AS one"
    assert cli("sql", query, "--format", "csv").out.splitlines() == [
        "text,one,one_2",
        '"[red]x, ""y""",1,2',
    ]
    assert '[red]x, "y"' in cli("sql", query).out
    assert cli("sql", "SELECT 1 WHERE false").out == "(no rows)\n"


@pytest.mark.usefixtures("at_home")
def test_a_table_in_a_pipe_has_whole_values(cli: Cli) -> None:
    said = cli("sql", "SELECT repeat('x', 300) AS long, repeat('y', 200) AS second, 1 AS one")
    [line] = [line for line in said.out.splitlines() if "x" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["x" * 300, "y" * 200, "1"]


@pytest.mark.usefixtures("at_home")
def test_csv_has_values_as_they_are(cli: Cli) -> None:
    query = "SELECT '=1+1' AS a, '-x.png' AS b, '@me' AS c, '+2' AS d, -1 AS e"
    assert cli("sql", query, "--format", "csv").out.splitlines()[1] == "=1+1,-x.png,@me,+2,-1"


def test_all_labelled_leaves_no_gold_and_says_so(
    cli: Cli, workspace: Workspace, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLOOP_HOME", str(workspace.root))
    said = cli("import", "coco", drawn.truth, "--images", drawn.folder, "--labelled", "1", "--json")
    report = value_of(said)
    assert (report["num_gold"], report["num_labelled"]) == (0, 12)
    assert len(said.errors) == 1
    assert said.errors[0].startswith("--labelled 1 leaves no gold image")


@pytest.mark.usefixtures("at_home")
def test_import_and_add(cli: Cli, drawn: Any, tmp_path: Path) -> None:
    again = value_of(cli("import", "coco", drawn.truth, "--images", drawn.folder, "--json"))
    assert (again["repeated"], again["num_known"]) == (True, 12)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    said = cli("add", drawn.folder, bad, "--json")
    added = value_of(said)
    assert (added["num_new"], len(added["problems"])) == (0, 1)
    assert said.errors == [f"left out: {added['problems'][0]}"]


def test_export(cli: Cli, at_home: Workspace, tmp_path: Path) -> None:
    stood = at_home.lake.snapshot()
    result = value_of(cli("export", "coco", tmp_path / "out.json", "--stage", "label", "--json"))
    written = json.loads((tmp_path / "out.json").read_text())
    assert result["masks"] == len(written["annotations"])
    # The row of the export is a snapshot of its own.
    assert result["snapshot"] == stood == at_home.lake.snapshot() - 1


def test_store_gc_lists_and_deletes(cli: Cli, at_home: Workspace) -> None:
    stray = at_home.root / "lake" / "stray.parquet"
    stray.write_bytes(b"xx")
    arguments = ("store", "gc", "--min-age-h", "0", "--json")
    listed = value_of(cli(*arguments))
    assert (listed["deleted"], [item["bytes"] for item in listed["files"]]) == (False, [2])
    assert stray.exists()
    assert value_of(cli(*arguments, "--delete"))["deleted"]
    assert not stray.exists()


@pytest.mark.usefixtures("at_home")
def test_store_compact_expire_backup_and_restore(cli: Cli, tmp_path: Path) -> None:
    listed = value_of(cli("store", "compact", "--json"))
    assert not listed["applied"]
    merged = value_of(cli("store", "compact", "--apply", "--json"))
    assert [each["table"] for each in merged["tables"]] == [
        each["table"] for each in listed["tables"]
    ]
    assert value_of(cli("store", "expire", "--older-than", "30d", "--json"))["snapshots"] == []
    assert cli("store", "expire", "--older-than", "soon").code == 2
    made = value_of(cli("store", "backup", str(tmp_path / "backup"), "--json"))
    assert made["copied"] > 0
    again = cli("store", "restore", str(tmp_path / "backup"), str(tmp_path / "new"), "--json")
    assert value_of(again)["files"] == made["files"]
    assert value_of(cli("fsck", "--repair", "--json")) == {"repaired": [], "breaches": []}


def test_forget_asks_first(cli: Cli, at_home: Workspace) -> None:
    name = at_home.lake.rows("SELECT file_name FROM images LIMIT 1")[0]["file_name"]
    assert cli("forget", "nowhere.png", "--yes").code == 2
    assert value_of(cli("forget", name, "--yes", "--json"))["still naming it"] == []
    assert cli("forget", name, "--yes").code == 2


def test_fsck_of_a_sound_store_and_of_a_broken_one(cli: Cli, at_home: Workspace) -> None:
    assert value_of(cli("fsck", "--json")) == []
    at_home.lake.commit(
        lambda tx: tx.execute("UPDATE masks SET image_id = 'nowhere'"), message="test"
    )
    said = cli("fsck", "--json")
    assert said.code == 1
    assert {"invariant", "where", "message"} <= json.loads(said.out)[0].keys()


@pytest.fixture
def tiny(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's recipe under a name that commands know."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", replace(recipe, name="tiny"))
    return "tiny"


SHARES = (
    *("iou_1_click", "iou_2_clicks", "iou_3_clicks", "iou_5_clicks", "iou_9_clicks"),
    *("iou_1_random_click", "iou_oracle_of_3", "iou_calibration_error"),
    *("ar1000", "ap", "ap50", "ap75", "f1_50", "f1_75"),
)
SIZES = ("ar_small", "ar_medium", "ar_large")


def check_scores(scores: dict[str, Any]) -> None:
    names = (*SHARES, *SIZES, "noc85", "noc90")
    ends = ("", "_low", "_high")
    counts = {"model", "images", "generated_images", "masks"}
    assert scores.keys() == {*counts, *(n + end for n in names for end in ends)}
    assert all(0 <= scores[name + end] <= 1 for name in SHARES for end in ends)
    assert all(1 <= scores[name + end] <= 10 for name in ("noc85", "noc90") for end in ends)
    # Drawn scenes of 96 x 128 pixels have no object of over 96 x 96.
    assert scores["ar_large"] is scores["ar_large_low"] is scores["ar_large_high"] is None
    assert 0 <= scores["ar_small"] <= 1


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    config = ModelConfig(architecture="nano_tiny")
    path = tmp_path / "some.safetensors"
    path.write_bytes(weights.to_bytes(build_model(config, seed=0), config))
    return path


def test_evaluate_a_weights_file_without_a_workspace(
    cli: Cli,
    drawn: Any,
    tiny: str,
    weights_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKLOOP_HOME", raising=False)
    given = ("evaluate", "--recipe", tiny, "--weights", weights_file)
    truth = ("--truth", drawn.truth, "--images", drawn.folder)
    scores = value_of(cli(*given, *truth, "--json"))
    check_scores(scores)
    assert (scores["model"], scores["images"]) == (str(weights_file), 2)
    lines = cli(*given, *truth).out.splitlines()
    assert lines[0].startswith(f"{weights_file}: 2 images, ")
    [line] = [line for line in lines if "iou_1_click" in line]
    value, low, high = (f"{scores['iou_1_click' + end]:.4f}" for end in ("", "_low", "_high"))
    assert line.split("│")[2].strip() == value
    assert line.split("│")[3].strip() == f"{low} to {high}"
    said = cli(*given, "--json")
    assert said.code == 2, "the gold set is in a workspace"
    shipped = cli("evaluate", "--recipe", tiny, *truth, "--json")
    assert "the weights that ship are measured" in shipped.err
    assert json.loads(shipped.out)["model"].endswith("nano.safetensors")
    assert cli("evaluate", "--recipe", tiny, "--model", "v1", *truth).code == 2


def test_evaluate_a_weights_file_on_the_gold_set(
    cli: Cli, at_home: Workspace, tiny: str, weights_file: Path
) -> None:
    snapshot = at_home.lake.snapshot()
    scores = value_of(cli("evaluate", "--recipe", tiny, "--weights", weights_file, "--json"))
    assert (scores["model"], scores["images"]) == (str(weights_file), 2)
    assert at_home.lake.snapshot() == snapshot


def test_evaluate_and_models(cli: Cli, at_home: Workspace, drawn: Any, tiny: str) -> None:
    assert value_of(cli("models", "list", "--json")) == []
    scores = value_of(cli("evaluate", "--recipe", tiny, "--json"))
    check_scores(scores)
    assert (scores["model"], scores["images"]) == ("v1", 2)
    truth = ("--truth", drawn.truth, "--images", drawn.folder)
    assert value_of(cli("evaluate", "--recipe", tiny, *truth, "--json"))["images"] == 2
    [row] = value_of(cli("models", "list", "--json"))
    assert (row["version"], row["status"], row["role"]) == ("v1", "promoted", "base")
    facts = value_of(cli("models", "show", "v1", "--json"))
    assert len(facts["promotions"]) == 1
    assert cli("models", "promote", "v1").out == "v1 serves already; nothing changed\n"
    assert cli("models", "rollback").code == 2
    assert evaluation.gold_labels(at_home).num_masks > 0


@pytest.mark.slow
@pytest.mark.usefixtures("at_home")
def test_train_says_one_line_of_prefect_and_one_value(cli: Cli, tiny: str) -> None:
    said = cli("train", "--recipe", tiny, "--json")
    result = value_of(said)
    assert result["version"] == "v2"
    assert len([line for line in said.errors if "Prefect" in line]) == 1
