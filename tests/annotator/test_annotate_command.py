"""`maskloop annotate --simulate`: works through the queue, or says in one line what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app as command_line

Annotate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def annotate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Annotate:
    """`maskloop annotate --simulate ...`: exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        words = ["maskloop", "annotate", "--simulate", *map(str, arguments)]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        output = capsys.readouterr()
        return int(stopped.value.code or 0), output.out, " ".join(output.err.split())

    return run


def test_the_command_works_through_the_queue(desk: Any, tmp_path: Path, annotate: Annotate) -> None:
    truth = desk.write_truth(tmp_path / "truth.json")
    with desk.open():
        code, output, _ = annotate("--truth", truth, "--url", desk.server.url, "--json")
    assert code == 0
    assert json.loads(output)["num_items"] == 3


def test_a_careful_one_draws_what_clicks_do_not_reach(
    desk: Any, tmp_path: Path, annotate: Annotate
) -> None:
    desk.models.stubborn = {0, 1, 2}
    truth = desk.write_truth(tmp_path / "truth.json")
    with desk.open():
        code, output, _ = annotate(
            "--truth", truth, "--url", desk.server.url, "--careful", "--json"
        )
    summary = json.loads(output)
    assert (code, summary["num_items"], summary["num_drawn"]) == (0, 3, 4)


@pytest.mark.parametrize(
    ("name", "signature"), [("bob", "simulated-bob"), ("simulated-2", "simulated-2")]
)
def test_nobody_takes_a_simulation_for_a_person(
    desk: Any, tmp_path: Path, annotate: Annotate, name: str, signature: str
) -> None:
    truth = desk.write_truth(tmp_path / "truth.json")
    with desk.open():
        annotate("--truth", truth, "--url", desk.server.url, "--annotator", name)
    assert {each.annotator for each in desk.queue.submissions_after(0)} == {signature}


@pytest.mark.parametrize("how", ["environment", "option"])
def test_where_people_sign_in_it_shows_a_token(
    team: Any, tmp_path: Path, annotate: Annotate, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    desk = team.desk
    truth = desk.write_truth(tmp_path / "truth.json")
    asked = ("--truth", truth, "--url", desk.server.url)
    token = team.people.add("simulated-2")
    code, _, errors = annotate(*asked)
    assert code == 1
    assert "401 not_signed_in" in errors
    assert "MASKLOOP_TOKEN" in errors
    if how == "environment":
        monkeypatch.setenv("MASKLOOP_TOKEN", token)
        code, output, errors = annotate(*asked, "--json")
    else:
        code, output, errors = annotate(*asked, "--json", "--token", token)
    assert (code, json.loads(output)["num_items"]) == (0, 3)
    assert token not in output + errors
    assert {each.annotator for each in desk.queue.submissions_after(0)} == {"simulated-2"}


def test_a_persons_token_is_not_for_a_simulation(
    team: Any, tmp_path: Path, annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = team.desk.write_truth(tmp_path / "truth.json")
    monkeypatch.setenv("MASKLOOP_TOKEN", team.people.add("ada"))
    code, _, errors = annotate("--truth", truth, "--url", team.desk.server.url)
    assert code == 2
    assert "--token: is ada's" in errors
    assert "maskloop annotators add simulated-ada" in errors
    assert team.desk.queue.counts()["leased"] == 0


def test_another_name_than_the_tokens_is_refused(
    team: Any, tmp_path: Path, annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = team.desk.write_truth(tmp_path / "truth.json")
    monkeypatch.setenv("MASKLOOP_TOKEN", team.people.add("simulated-2"))
    asked = ("--truth", truth, "--url", team.desk.server.url)
    code, _, errors = annotate(*asked, "--annotator", "bob")
    assert code == 1
    assert "403 not_you" in errors


def test_where_nobody_signs_in_a_token_is_no_matter(
    desk: Any, tmp_path: Path, annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = desk.write_truth(tmp_path / "truth.json")
    monkeypatch.setenv("MASKLOOP_TOKEN", "mlp_of-another-workspace")
    with desk.open():
        code, _, _ = annotate("--truth", truth, "--url", desk.server.url)
    assert code == 0
    assert {each.annotator for each in desk.queue.submissions_after(0)} == {"simulated"}


@pytest.mark.parametrize("name", ["n" * 64, "a\nb"])
def test_the_command_refuses_what_is_no_name(
    desk: Any, tmp_path: Path, annotate: Annotate, name: str
) -> None:
    truth = desk.write_truth(tmp_path / "truth.json")
    code, _, errors = annotate("--truth", truth, "--annotator", name)
    assert code == 2
    assert "--annotator: must be letters, digits, spaces or ._@-, and 54 of them at most" in errors


def test_the_command_refuses_the_truth_of_other_images(
    desk: Any, tmp_path: Path, annotate: Annotate
) -> None:
    truth = desk.write_truth(tmp_path / "truth.json", image_1="other.png")
    with desk.open():
        code, _, errors = annotate("--truth", truth, "--url", desk.server.url)
    assert code == 2
    assert "must have the images of the queue, but knows no 'picture-1.png'" in errors
    assert desk.queue.counts()["leased"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param("{", "not JSON", id="not JSON"),
        pytest.param("[]", "a list", id="a list"),
    ],
)
def test_the_command_refuses_what_is_no_truth(
    tmp_path: Path, annotate: Annotate, content: str | None, message: str
) -> None:
    truth = tmp_path / "truth.json"
    if content is not None:
        truth.write_text(content)
    code, _, errors = annotate("--truth", truth, "--url", "http://127.0.0.1:1")
    assert code == 2
    assert message in errors


@pytest.mark.parametrize("url", ["127.0.0.1:8765", "ftp://127.0.0.1", "http://"])
def test_the_command_refuses_what_is_no_address(
    desk: Any, tmp_path: Path, annotate: Annotate, url: str
) -> None:
    truth = desk.write_truth(tmp_path / "truth.json")
    code, _, errors = annotate("--truth", truth, "--url", url)
    assert code == 2
    assert "url: must be http://HOST:PORT" in errors
