"""A workspace whose queue lives in Postgres."""

from pathlib import Path
from typing import Any

import pytest

from flows import workspace as workspaces
from flows.errors import UsageError
from flows.settings import FILE_NAME
from flows.workspace import open_workspace
from storage.queue.check import check
from storage.queue.items import NewItem
from storage.queue.pointer import GateDecision
from storage.queue.review import ReviewQueue

EMPTY = '[queue]\nurl = ""'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    workspaces.create(tmp_path / "workspace").close()
    return tmp_path / "workspace"


def use(root: Path, url: str) -> None:
    path = root / FILE_NAME
    text = path.read_text()
    assert text.count(EMPTY) == 1
    path.write_text(text.replace(EMPTY, f'[queue]\nurl = "{url}"'))


@pytest.mark.postgres
def test_queue_and_pointer_live_where_the_settings_say(root: Path, postgres: Any) -> None:
    use(root, postgres.create("workspace"))
    item = NewItem(
        image_id="one",
        file_name="one.png",
        height=1,
        width=1,
        model_version="v1",
        run_id="run-1",
        iteration=1,
    )
    opened = open_workspace(root)
    opened.queue.enqueue([item])
    decision = GateDecision(model_version="v1", passed=True, reason="first")
    assert opened.pointer.promote("v1", 0, opened.pointer.record_gate(decision))
    opened.close()

    again = open_workspace(root)
    assert again.queue.counts()["ready"] == 1
    assert again.pointer.current() == ("v1", 1)
    assert check(again.queue.database) == []
    again.close()
    file = ReviewQueue.open(f"sqlite:///{root / 'queue.sqlite'}")
    assert file.counts()["ready"] == 0, "the file of the workspace is another queue"
    file.close()


def test_a_url_without_a_database_is_refused(root: Path) -> None:
    use(root, "postgresql://ada:secret@db")
    with pytest.raises(UsageError, match=r"queue\.url: .*HOST/DATABASE") as caught:
        open_workspace(root)
    assert "secret" not in str(caught.value)
