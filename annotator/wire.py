"""Values as they travel: strict JSON models, and masks that are checked before decoding."""

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationError,
    WithJsonSchema,
)

from engine import rle
from engine.rle import Rle
from engine.short_codes import short_area

MAX_SIDE = 30_000
# For the API's reference: 2 x 2 pixels, one column from the left.
EXAMPLE_MASK = {"size": [4, 6], "counts": "4220<"}
_MAX_NAME = 200


class Wire(BaseModel):
    """A JSON object with exactly the fields it declares, of exactly their types, never NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _read_segmentation(value: Any) -> Rle:
    if isinstance(value, Rle):
        return _checked(value)
    if not isinstance(value, Mapping) or value.keys() != {"size", "counts"}:
        raise ValueError("must be an object with size and counts")
    size, counts = value["size"], value["counts"]
    if not (isinstance(size, (list, tuple)) and len(size) == 2 and all(map(_is_side, size))):
        raise ValueError(f"size: must be [height, width], each from 1 to {MAX_SIDE}")
    if not (isinstance(counts, str) and counts.isascii()):
        raise ValueError("counts: must be COCO's compressed RLE, a string of ASCII characters")
    return _checked(Rle((size[0], size[1]), counts))


def _checked(mask: Rle) -> Rle:
    if short_area(mask) is None:
        rle.validate(mask)
    return mask


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_SIDE


def _write_segmentation(mask: Rle) -> dict[str, Any]:
    return {"size": list(mask.size), "counts": mask.counts}


Segmentation = Annotated[
    Rle,
    PlainValidator(_read_segmentation),
    PlainSerializer(_write_segmentation),
    WithJsonSchema(
        {
            "type": "object",
            "title": "Segmentation",
            "description": "A mask as COCO compressed RLE, column-major.",
            "properties": {
                "size": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": MAX_SIDE},
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "[height, width]",
                },
                "counts": {"type": "string"},
            },
            "required": ["size", "counts"],
            "additionalProperties": False,
            "examples": [EXAMPLE_MASK],
        }
    ),
]
"""A mask: an engine `Rle` in Python, `{"size": [height, width], "counts": "..."}` in JSON."""

# No control characters, separators other than the space, or marks that turn the direction of text.
AnnotatorName = Annotated[
    str,
    Field(
        pattern=r"^[\p{L}\p{N}][\p{L}\p{M}\p{N} ._@-]{0,63}$",
        description="Who works: 1 to 64 letters, digits, spaces or ._@-",
        examples=["ada"],
    ),
]
PlainName = Annotated[str, Field(pattern=r"^[^\p{C}\p{Zl}\p{Zp}]{1,200}$", max_length=_MAX_NAME)]


def _spoken(text: str) -> str:
    if not text.isprintable() or not any(map(str.isalnum, text)):
        raise ValueError(f"must be printable, with a letter or a digit, got {text!a}")
    return text


SpokenText = Annotated[
    str,
    AfterValidator(_spoken),
    Field(
        min_length=1,
        max_length=_MAX_NAME,
        description="What masks show, in a few words.",
        examples=["a red mug"],
    ),
]
# Not Literal[0, 1], which also takes true and false.
Label = Annotated[int, Field(ge=0, le=1, description="1 adds, 0 removes")]
Score = Annotated[float, Field(ge=0, le=1)]
# JSON has only lists; inside the models they are tuples.
FromList = Strict(False)
Coordinate = Annotated[float, Field(ge=0)]


def _ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"must be (x0, y0, x1, y1) with x0 < x1, y0 < y1, got {box}")
    return box


PromptBox = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate], FromList, AfterValidator(_ordered)
]
"""A box (x0, y0, x1, y1) as a prompt, in pixels of the original image."""


def first_problem(error: ValidationError) -> tuple[str, str]:
    """(field, rule) of the first thing that is wrong, such as ("added[0].seconds", "...")."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return field_path(found["loc"]), found["msg"].removeprefix("Value error, ")


def field_path(location: tuple[int | str, ...]) -> str:
    """`("decisions", 2, "action")` -> `decisions[2].action`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return path.removeprefix(".")


def refuse(error: ValidationError, kind: type[ValueError]) -> NoReturn:
    """Raise `kind` with the field and rule of a validation error."""
    field, rule = first_problem(error)
    raise kind(f"{field or 'body'}: {rule}") from error
