"""`maskloop follow`: looks, does what is due, says what goes wrong, and looks again."""

from dataclasses import dataclass, field, replace

import pytest

from flows.errors import StageError, UsageError
from flows.locks import stage_lock
from flows.processes import launch
from flows.processes.prefect_server import free_port
from flows.progress import Silent
from flows.turns import following
from flows.turns.following import alone, follow
from flows.workspace import Workspace


def with_annotator(workspace: Workspace, **changes: float) -> Workspace:
    annotator = replace(workspace.settings.annotator, **changes)  # type: ignore[arg-type]
    return replace(workspace, settings=replace(workspace.settings, annotator=annotator))


@dataclass
class Told(Silent):
    """Remembers the notes."""

    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_it_does_what_is_due_and_goes_on_after_an_error(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_LOOK_EVERY_S", 0.0)
    desk = with_annotator(filled, port=free_port())
    ends = [StageError("it diverged"), None, KeyboardInterrupt()]
    asked: list[tuple[str, str]] = []

    def turn(root: str, recipe: str) -> None:
        asked.append((root, recipe))
        if (end := ends[len(asked) - 1]) is not None:
            raise end

    told = Told()
    with pytest.raises(KeyboardInterrupt):
        follow(desk, {"turn": turn}, "quick", told)
    assert asked == [(str(desk.root), "quick")] * 3
    assert "error: it diverged" in told.notes


def test_a_loop_that_turns_by_hand_only_is_not_followed(workspace: Workspace) -> None:
    by_hand = with_annotator(workspace, batch_done_share=0.0)
    with (
        pytest.raises(UsageError, match=r"maskloop\.toml: annotator\.batch_done_share: 0 says"),
        alone(by_hand),
    ):
        pass


@pytest.mark.parametrize(
    ("other", "words"), [(launch.SERVE, "maskloop serve runs"), ("follow", "another process")]
)
def test_one_looks_at_a_time(workspace: Workspace, other: str, words: str) -> None:
    with (
        stage_lock(workspace, other),
        pytest.raises(StageError, match=f"follow: {words}"),
        alone(workspace),
    ):
        pass
