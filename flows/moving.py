"""Carries a store to another place; `maskloop.toml` names that only when it is sound."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, replace

from flows.checking import fsck
from flows.errors import StageError, UsageError
from flows.progress import Progress
from flows.settings import FILE_NAME
from flows.store_settings import StoreSettings
from flows.workspace import Workspace
from storage.catalog import moving
from storage.catalog.lake import Lake
from storage.catalog.moving import Copied
from storage.catalog.place import Place
from storage.durable import write_durably

# The queue stays where it is: what people have answered and not merged is in it alone.
_QUEUE_HERE = "sqlite:///queue.sqlite"


def move_store(workspace: Workspace, store: StoreSettings, progress: Progress) -> Copied:
    """Copy the store to where `store` says, check it there, and let the settings say so too.

    The old place stays as it is. Raises UsageError for a place that is none, StageError when the
    copy is not sound; then the settings are as before.
    """
    to = _place(workspace, store)
    copied = moving.copy(
        workspace.lake, to, lambda done, total: progress.step("objects copied", done, total)
    )
    progress.note("checking every invariant in the new place")
    _require_sound(workspace, to)
    with workspace.lake.lock():
        moving.require_same(workspace.lake, copied)
        _switch(workspace, store)
    return copied


def _place(workspace: Workspace, store: StoreSettings) -> Place:
    try:
        to = store.place(workspace.root)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    if to == workspace.lake.place:
        raise UsageError("--data, --catalog: the store is there already; nothing to do")
    return to


def _require_sound(workspace: Workspace, to: Place) -> None:
    lake = Lake.open(to)
    try:
        breaches = fsck(replace(workspace, lake=lake))
    finally:
        lake.close()
    if breaches:
        first = breaches[0]
        raise StageError(
            f"the copy is not sound: {len(breaches)} breaches, the first: {first.invariant} "
            f"{first.where} {first.message}; the settings are as before, run: maskloop fsck"
        )


def _switch(workspace: Workspace, store: StoreSettings) -> None:
    path = workspace.root / FILE_NAME
    text = with_values(path.read_text(encoding="utf-8"), "store", asdict(store))
    before = workspace.settings.store.shared_database
    if not workspace.settings.queue.url and store.shared_database != before:
        text = with_values(text, "queue", {"url": before or _QUEUE_HERE})
    write_durably(path, text.encode())


def with_values(text: str, table: str, values: Mapping[str, str]) -> str:
    """A TOML file with these words in a table of it, comments and all else as they were."""
    head, mark, rest = _split(text, table)
    body, next_table, tail = _until_next_table(rest)
    for name, value in values.items():
        line = f"{name} = {_quoted(value)}"
        found = re.search(rf"""^{name}\s*=\s*("(?:[^"\\\n]|\\.)*"|'[^'\n]*')""", body, re.MULTILINE)
        if found is not None:
            body = body[: found.start()] + line + body[found.end() :]
        elif value:
            body = f"\n{line}{body}"
    changed = f"{head}{mark}{body}{next_table}{tail}"
    reads = tomllib.loads(changed).get(table, {})
    wrong = [name for name, value in values.items() if reads.get(name, "") != value]
    if wrong:
        raise UsageError(f"{FILE_NAME}: {table}.{wrong[0]}: write {values[wrong[0]]!r} by hand")
    return changed


def _split(text: str, table: str) -> tuple[str, str, str]:
    found = re.search(rf"^\[{table}\][^\n]*", text, re.MULTILINE)
    if found is None:
        return text.rstrip("\n") + "\n\n", f"[{table}]", "\n"
    return text[: found.start()], found[0], text[found.end() :]


def _until_next_table(rest: str) -> tuple[str, str, str]:
    found = re.search(r"^\[", rest, re.MULTILINE)
    return (rest, "", "") if found is None else (rest[: found.start()], "[", rest[found.end() :])


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
