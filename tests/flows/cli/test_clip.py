"""`maskloop clip train` as a command: what it prints, and that its weights are used."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.clip.classes import ClassPrompts
from engine.clip.weights import load
from flows.clip.clips import mask_encoder
from flows.clip.labelling import label_stage
from flows.clip.searching import search
from flows.progress import Silent
from flows.workspace import Workspace, open_workspace


def test_a_store_s_training_is_what_label_and_search_use(
    at_home: Workspace, cli: Callable[..., Any]
) -> None:
    out = at_home.root / "ours.safetensors"
    said = cli("clip", "train", "--out", out, "--fresh", "--steps", 6, "--holdout", 0.3, "--json")
    assert said.code == 0
    outcome = json.loads(said.out)
    assert outcome["after"]["accuracy"] is not None
    assert "named rightly" in said.err
    settings = at_home.root / "maskloop.toml"
    settings.write_text(settings.read_text().replace('weights = ""', f'weights = "{out}"'))
    opened = open_workspace(at_home.root)
    encoder = mask_encoder(opened)
    names = {row["category"] for row in opened.lake.rows("SELECT category FROM mask_names")}
    label_stage(opened, encoder, ClassPrompts.parse(sorted(names)), Silent())
    hits = search(opened, encoder, text=f"a photo of a {min(names)}.", count=3)
    opened.lake.close()
    assert len(hits) == 3
    assert encoder.clip.fingerprint == load(out).fingerprint


def with_views(workspace: Workspace, views: str) -> None:
    settings = workspace.root / "maskloop.toml"
    usual = 'views = ["tight", "grey"]'
    assert usual in settings.read_text()
    settings.write_text(settings.read_text().replace(usual, f"views = {views}"))


def test_masks_are_shown_in_the_views_of_the_settings(at_home: Workspace) -> None:
    usual = mask_encoder(at_home).encoder_id
    with_views(at_home, '["context", "tight"]')
    with closing(open_workspace(at_home.root)) as opened:
        encoder = mask_encoder(opened)
    assert encoder.views.views == ("context", "tight")
    assert encoder.encoder_id != usual


def test_masked_attention_is_refused_where_the_clip_cannot(
    at_home: Workspace, cli: Callable[..., Any]
) -> None:
    with_views(at_home, '["attention"]')
    said = cli("search", "a red mug")
    assert said.code == 2
    assert said.errors == [
        "error: maskloop.toml: clip.views: attention needs an image tower of separate patches and "
        "a class token, as ViT-B-32 has, but nano-clip has another; leave attention out, or choose "
        "such a CLIP"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lock", "both"], "error: --lock: must be image or text, but got 'both'"),
        (["--fresh", "--clip", "x"], "error: --fresh: begins with random weights; leave --clip"),
        (["--clip", "none.safetensors"], "error: --clip: none.safetensors: no such file"),
        (["--architecture", "ViT-X"], "error: --clip: architecture: must be nano-clip or one of"),
    ],
)
def test_a_mistake_is_one_line(
    cli: Callable[..., Any], pictures: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    said = cli("clip", "train", pictures, "--out", tmp_path / "o.safetensors", *options)
    assert said.code == 2
    assert len(said.errors) == 1
    assert said.errors[0].startswith(message)


def test_without_a_workspace_there_is_no_store(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = cli("clip", "train", "--out", tmp_path / "o.safetensors")
    assert said.code == 2
    assert said.errors[0].startswith("error: no workspace")
