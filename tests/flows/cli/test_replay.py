"""`maskloop replay`: what it prints."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from flows.workspace import Workspace


@pytest.mark.slow
def test_the_command(cli: Callable[..., Any], at_home: Workspace) -> None:
    (at_home.root / "maskloop.toml").write_text(
        'version = 1\nrecipe = "demo-quick"\n[workers]\nkind = "local"\n'
    )
    made = cli("generate", "--keep-candidates", "--json")
    assert made.code == 0, made.err
    said = cli("replay", "--pred-iou-thresh", "0.7", "--json")
    assert said.code == 0, said.err
    first, second = json.loads(made.out), json.loads(said.out)
    assert 0 < second["num_masks"] < first["num_masks"]
    again = cli("replay", "--pred-iou-thresh", "0.7")
    assert "nothing to do" in again.out
    assert cli("replay").code == 0
    assert cli("replay", "--pred-iou-thresh", "0.01").code == 2
