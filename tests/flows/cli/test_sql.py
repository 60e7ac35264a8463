"""`maskloop sql` as a file: Parquet and Arrow of any length, all of it or nothing."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import answers
from flows import workspace as workspaces

READ = {"parquet": pq.read_table, "arrow": lambda path: pa.ipc.open_file(path).read_all()}
COMMAND = [sys.executable, "-c", "from flows.cli.app import main; main()", "sql"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "workspace"
    workspaces.create(root).lake.close()
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("form", answers.FORMATS)
def test_an_answer_becomes_a_file(cli: Callable[..., Any], home: Path, form: str) -> None:
    path = home / f"answer.{form}"
    sql = "SELECT i, i AS i, sum(i) AS total FROM range(300000) t(i) GROUP BY i"
    said = cli("sql", sql, "--out", path, "--max-rows", 300_000)
    assert (said.code, said.out) == (0, "")
    table = READ[form](str(path))
    assert table.schema.names == ["i", "i_2", "total"]
    assert table.schema.field("total").type == pa.int64()
    assert sorted(table["i"].to_pylist()) == list(range(300_000))


@pytest.mark.usefixtures("home")
def test_json_by_either_name_and_lines_that_a_shell_reads(cli: Callable[..., Any]) -> None:
    sql = "SELECT 'a' AS name, 1 AS n"
    assert cli("sql", sql, "--json").out == cli("sql", sql, "--format", "json").out
    assert cli("sql", sql, "--format", "csv").out == "name,n\na,1\n"
    said = cli("sql", sql, "--json", "--format", "csv")
    assert said.code == 2
    assert said.errors[-1].startswith("error: --json: is --format json, and not csv")


@pytest.mark.parametrize("form", answers.FORMATS)
def test_an_empty_answer_keeps_its_columns(cli: Callable[..., Any], home: Path, form: str) -> None:
    path = home / f"answer.{form}"
    assert cli("sql", "SELECT mask_id, area FROM masks", "--out", path).code == 0
    assert READ[form](str(path)).schema.names == ["mask_id", "area"]


def test_an_answer_that_fails_leaves_what_there_was(cli: Callable[..., Any], home: Path) -> None:
    path = home / "answer.parquet"
    path.write_text("before")
    said = cli("sql", "SELECT i FROM range(200000) t(i)", "--out", path)
    assert said.code == 2
    assert "more than 100000 rows" in said.err
    assert path.read_text() == "before"
    assert list(home.glob("answer*")) == [path]


def test_a_sum_too_large_for_a_file_says_what_to_write(cli: Callable[..., Any], home: Path) -> None:
    sql = "SELECT sum(9223372036854775807::HUGEINT) AS big FROM range(2)"
    said = cli("sql", sql, "--out", home / "answer.parquet")
    assert said.code == 2
    assert "big: a whole number of more than 64 bits" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "xml"), "--format: must be table, json, csv, parquet or arrow"),
        (("--out", "answer.txt"), "got 'txt'"),
        (("--out", "answer.csv"), "--out: is for parquet and arrow"),
        (("--max-rows", "0"), "--max-rows: must be positive"),
        (("--max-s", "nan"), "--max-s: must be positive"),
    ],
)
def test_wrong_options_are_refused(
    cli: Callable[..., Any], home: Path, options: tuple[str, ...], message: str
) -> None:
    said = cli("sql", "SELECT 1", *options)
    assert said.code == 2
    assert message in said.err
    assert not list(home.glob("answer*"))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("form", answers.FORMATS)
def test_a_pipe_gets_the_bytes(form: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "SELECT 1 AS one", "--format", form], capture_output=True, check=True
    )
    path = tmp_path / "piped"
    path.write_bytes(done.stdout)
    assert READ[form](str(path)).to_pylist() == [{"one": 1}]


@pytest.mark.usefixtures("home")
def test_a_terminal_gets_no_bytes() -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "SELECT 1", "--format", "arrow"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"name a file by --out" in done.stderr
