"""Images with captions out of files: a folder, or a table of addresses and texts."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine import images
from engine.clip.classes import ClassPrompts
from engine.clip.pairs import equal_texts
from flows.clip.pictures import Saying, Seen
from flows.errors import StageError, UsageError
from flows.images.remote import is_remote
from flows.images.sources import ImageReader, Place
from flows.intake.files import Unread, expand, read_place
from flows.intake.places import place_in

_COLUMNS = ("uri", "text")
_TABLES = (".csv", ".parquet")
_EXPECTED = (
    "expected a folder of images with a NAME.txt beside each, a .csv or .parquet with the columns "
    "uri and text, or store"
)


@dataclass(frozen=True, kw_only=True)
class FilePairs:
    """A `flows.clip.pictures.PairSource` of images by place, each with one caption or more."""

    name: str
    captions: tuple[tuple[Place, tuple[str, ...]], ...]
    reader: ImageReader
    prompts: ClassPrompts | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def look(self, index: int) -> Seen | str:
        """An image with its captions, or why it cannot be read.

        Raises StageError where its server is away: training without it would be another one.
        """
        place, texts = self.captions[index]
        data = read_place(place, self.reader)
        if isinstance(data, Unread):
            if data.passes:
                raise StageError(data.line)
            return data.line
        try:
            picture = images.decode(data, self.reader.limits).pixels
        except images.ImageError as error:
            return f"{place}: {error}"
        return Seen(
            content=images.image_id(data),
            pictures=[picture],
            sayings=[
                Saying(picture=0, text=text, alike=int(number))
                for text, number in zip(texts, equal_texts(texts), strict=True)
            ],
        )


def file_pairs(where: Path, reader: ImageReader) -> tuple[FilePairs, list[str]]:
    """The pairs that a folder, a CSV or a Parquet file has, and a line for each row left out.

    Raises UsageError that names the file and what to put right for what is none of these.
    """
    rows: Iterable[tuple[str, Place, str] | str]
    if where.is_dir():
        rows = _folder(where)
    elif not where.is_file():
        raise UsageError(f"{where}: no such folder or file; {_EXPECTED}")
    elif where.suffix.lower() == ".csv":
        rows = _table(where, _csv(where))
    elif where.suffix.lower() == ".parquet":
        rows = _table(where, _parquet(where))
    else:
        raise UsageError(f"{where}: not one of {', '.join(_TABLES)}; {_EXPECTED}")
    captions: dict[Place, dict[str, None]] = {}
    problems = []
    for row in rows:
        if isinstance(row, str):
            problems.append(row)
            continue
        said, place, caption = row
        if not (text := " ".join(caption.split())):
            problems.append(f"{said}: is empty; write what the image shows")
            continue
        captions.setdefault(place, {})[text] = None
    found = tuple((place, tuple(texts)) for place, texts in captions.items())
    return FilePairs(name=where.name, captions=found, reader=reader), problems


def _folder(folder: Path) -> Iterator[tuple[str, Place, str] | str]:
    """(where the caption stands, image, caption), or why there is none."""
    for image in expand([str(folder)]):
        beside = image.with_suffix(".txt")
        try:
            lines = beside.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            yield f"{image}: has no caption; write one into {beside.name} beside it"
            continue
        except UnicodeDecodeError:
            yield f"{beside}: not UTF-8 text; save it as that"
            continue
        except OSError as error:
            yield f"{beside}: {error.strerror}; make it readable"
            continue
        told = [line for line in lines if line.strip()]
        for line in told or [""]:
            yield str(beside), image, line


def _table(
    where: Path, rows: Iterable[tuple[int, object, object]]
) -> Iterator[tuple[str, Place, str] | str]:
    base = where.resolve().parent
    for number, uri, text in rows:
        said = f"{where}: row {number}"
        if not isinstance(uri, str) or not uri.strip():
            yield f"{said}: uri: is empty; name an image"
        elif not isinstance(text, str):
            yield f"{said}: text: is empty; write what the image shows"
        elif "\0" in uri:
            yield f"{said}: uri: has a NUL character; correct the name"
        else:
            name = uri.strip()
            yield f"{said}: text", name if is_remote(name) else place_in(base, name), text


def _csv(where: Path) -> Iterator[tuple[int, object, object]]:
    """(row, uri, text), the header being row 1."""
    try:
        with where.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            _check_columns(where, rows.fieldnames or [])
            for row in rows:
                yield rows.line_num, row["uri"], row["text"]
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8 text; save it as that") from error
    except csv.Error as error:
        raise UsageError(f"{where}: not a CSV file ({error}); write it anew") from error


def _parquet(where: Path) -> Iterator[tuple[int, object, object]]:
    """(row, uri, text), counted from 1."""
    try:
        file = pq.ParquetFile(where)
        schema = file.schema_arrow
        _check_columns(where, schema.names)
        for name in _COLUMNS:
            if not _is_text(schema.field(name).type):
                raise UsageError(
                    f"{where}: {name}: must be a column of text, but is of "
                    f"{schema.field(name).type}; write it as strings"
                )
        number = 0
        for batch in file.iter_batches(columns=list(_COLUMNS)):
            columns = [batch.column(name).to_pylist() for name in _COLUMNS]
            for uri, text in zip(*columns, strict=True):
                number += 1
                yield number, uri, text
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{where}: not a Parquet file ({reason}); write it anew") from error


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    )


def _check_columns(where: Path, names: Iterable[str]) -> None:
    there = list(names)
    if missing := [name for name in _COLUMNS if name not in there]:
        raise UsageError(
            f"{where}: lacks the column {' and '.join(missing)}, which must be named so; "
            f"it has {', '.join(map(repr, there[:10])) or 'none'}"
        )
