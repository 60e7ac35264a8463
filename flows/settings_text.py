"""Words changed in `maskloop.toml`, whose comments and all else stay as they were."""

import re
import tomllib
from collections.abc import Mapping

from flows.errors import UsageError
from flows.settings import FILE_NAME


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
    wrong = [name for name, value in values.items() if _read(changed, table, name) != value]
    if wrong:
        # Not shown: it may hold a password.
        raise UsageError(
            f"{FILE_NAME}: {table}.{wrong[0]}: is written in a way of its own; change it by hand"
        )
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


def _read(text: str, table: str, name: str) -> object:
    try:
        return tomllib.loads(text).get(table, {}).get(name, "")
    except tomllib.TOMLDecodeError:
        return None
