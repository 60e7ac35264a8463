"""How people and programs sign their work, so that nobody takes a program's for a person's."""

from pydantic import TypeAdapter, ValidationError

from annotator.wire import AnnotatorName

SIMULATED = "simulated"
_LONGEST = 64
# What the API takes, less `simulated-`.
_MOST = 54


def is_simulated(annotator: str) -> bool:
    """Whether a program signs with this name: `simulated`, `simulated-NAME`."""
    return annotator == SIMULATED or annotator.startswith(f"{SIMULATED}-")


def simulated_signature(name: str) -> str:
    """What a simulated annotator called `name` signs with; raises ValueError for no name."""
    signature = name if is_simulated(name) else f"{SIMULATED}-{name}"
    try:
        return _checked(signature)
    except ValidationError as error:
        raise _no_name("annotator", name, _MOST) from error


def check_name(name: str) -> str:
    """`name` if somebody can sign with it; raises ValueError otherwise."""
    try:
        return _checked(name)
    except ValidationError as error:
        raise _no_name("name", name, _LONGEST) from error


def _checked(name: str) -> str:
    checked: str = TypeAdapter(AnnotatorName).validate_python(name)
    return checked


def _no_name(field: str, name: str, most: int) -> ValueError:
    return ValueError(
        f"{field}: must be letters, digits, spaces or ._@-, and {most} of them at most, "
        f"but got {name!r}"
    )
