"""`maskloop lineage`: names are found, trees lead back over every turn, what is cut is counted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.errors import UsageError
from flows.lineage.named import Named, find
from flows.lineage.tree import Node, tree
from storage.rows import mask_id


def every(node: Node) -> Iterator[Node]:
    yield node
    for each in node.below:
        yield from every(each)


def below(node: Node, *path: str) -> Node:
    """The node reached by relations or kinds, one a level."""
    for word in path:
        [node] = [each for each in node.below if word in (each.relation, each.kind)]
    return node


NAMES = {
    "a model": ("v3", Named("model", "v3")),
    "a snapshot": ("2", Named("snapshot", "2")),
    "a run": ("merge2", Named("run", "merge2")),
    "a run by its beginning": ("generate3", Named("run", "generate3")),
    "a mask": (mask_id("ada1"), Named("mask", mask_id("ada1"))),
    "a mask by its beginning": (mask_id("ada1")[:12], Named("mask", mask_id("ada1"))),
    "an image": ("a2", Named("image", "a2")),
    "an image by its file name": ("a2.png", Named("image", "a2")),
}


@pytest.mark.parametrize(("text", "expected"), NAMES.values(), ids=NAMES)
def test_a_name_is_found(looked_at: Any, text: str, expected: Named) -> None:
    assert find(looked_at.workspace.lake, text) == expected


def test_names_that_are_none_or_several_are_told(looked_at: Any) -> None:
    lake = looked_at.workspace.lake
    with pytest.raises(UsageError, match="'nobody' names nothing"):
        find(lake, "nobody")
    with pytest.raises(UsageError, match="names nothing"):
        find(lake, "")
    with pytest.raises(
        UsageError, match="'merge' is ambiguous: run merge1, run merge2, run merge3"
    ):
        find(lake, "merge")
    with pytest.raises(UsageError, match="'v' is ambiguous: model v1"):
        find(lake, "v")
    assert find(lake, looked_at.export_id) == Named("export", looked_at.export_id)


def test_a_mask_leads_back_to_its_people_over_every_turn(looked_at: Any) -> None:
    root = tree(looked_at.workspace.lake, Named("mask", mask_id("auto3")), 30)
    assert below(root, "with").name == "v4"
    learnt = below(root, "with", "training set")
    assert learnt.facts["masks"] == 7
    groups = {node.name: node.facts["masks"] for node in learnt.below}
    assert groups == {
        "label": 1,
        "manual bob": 4,
        "semi ada v2": 1,
        "semi ada v3": 1,
    }
    models = {node.name for node in every(root) if node.kind == "model"}
    assert models == {"v1", "v2", "v3", "v4"}
    assert sum(not node.is_repeated for node in every(root) if node.name == "v1") >= 1
    assert all(node.num_cut == 0 for node in every(root))


def test_a_persons_mask_tells_its_prompt_and_what_learnt_it(looked_at: Any) -> None:
    root = tree(looked_at.workspace.lake, Named("mask", mask_id("ada1")), 1)
    told = {(node.relation, node.name) for node in root.below}
    assert {("asked for by", "proposal"), ("by", "ada"), ("of", "a1"), ("in", "merge1")} <= told
    assert {("with", "v1"), ("replaced by", mask_id("over")), ("taught", "v2")} <= told
    assert below(root, "of").facts["file_name"] == "a1.png"


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_what_is_cut_is_counted(looked_at: Any, depth: int) -> None:
    what = Named("model", "v4")
    cut, whole = (tree(looked_at.workspace.lake, what, levels) for levels in (depth, depth + 1))

    def at(node: Node, level: int) -> int:
        return 1 if level == 0 else sum(at(each, level - 1) for each in node.below)

    assert at(cut, depth + 1) == 0
    assert sum(node.num_cut for node in every(cut)) == at(whole, depth + 1) > 0


KINDS = {
    "a run that trained": ("run", "train2", {"v3"}),
    "a run that generated": ("run", "generate2", {"auto v3"}),
    "an image": ("image", "a1", {mask_id("over"), mask_id("bob1"), "v2", "v3", "v4"}),
}


@pytest.mark.parametrize(("kind", "name", "expected"), KINDS.values(), ids=KINDS)
def test_runs_and_images_tell_what_came_of_them(
    looked_at: Any, kind: Any, name: str, expected: set[str]
) -> None:
    root = tree(looked_at.workspace.lake, Named(kind, name), 1)
    assert expected <= {node.name for node in root.below}


def test_a_snapshot_tells_what_stood_and_an_export_what_is_in_it(looked_at: Any) -> None:
    lake = looked_at.workspace.lake
    [row] = lake.rows("SELECT snapshot FROM exports")
    stood = tree(lake, Named("snapshot", str(row["snapshot"])), 1)
    export = tree(lake, Named("export", looked_at.export_id), 1)
    assert "written to" in {node.relation for node in stood.below}
    groups = [
        {node.name: node.facts["masks"] for node in root.below if node.kind == "masks"}
        for root in (stood, export)
    ]
    assert groups[0] == groups[1]
    assert sum(groups[1].values()) == export.facts["num_masks"] == 7


def test_the_command_draws_it_and_gives_it_nested(
    looked_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLOOP_HOME", str(looked_at.workspace.root))
    drawn = CliRunner().invoke(app, ["lineage", "v4", "--depth", "2"])
    assert drawn.exit_code == 0, drawn.output
    assert "model v4 (status promoted" in drawn.stdout
    assert "learnt training set v4" in drawn.stdout
    nested = CliRunner().invoke(app, ["lineage", "v4", "--depth", "1", "--json"])
    value = json.loads(nested.stdout)
    assert (value["kind"], value["name"], value["facts"]["role"]) == ("model", "v4", "candidate")
    assert {each["relation"] for each in value["below"]} == {"trained from", "in", "learnt"}
    changed = CliRunner().invoke(app, ["diff", *map(str, looked_at.ended[:2]), "--by", "image"])
    assert "a2" in changed.stdout
    wrong = CliRunner().invoke(app, ["diff", "1", "2", "--by", "colour"])
    assert "--by: must be one of image, stage, model" in str(wrong.exception)
