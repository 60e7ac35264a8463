"""How programs sign their submissions, so that nobody takes their work for a person's."""

from pydantic import TypeAdapter, ValidationError

from annotator.wire import AnnotatorName

SIMULATED = "simulated"
# What the API takes, less `simulated-`.
_MOST = 54


def is_simulated(annotator: str) -> bool:
    """Whether a program signs with this name: `simulated`, `simulated-NAME`."""
    return annotator == SIMULATED or annotator.startswith(f"{SIMULATED}-")


def simulated_signature(name: str) -> str:
    """What a simulated annotator called `name` signs with; raises ValueError for no name."""
    signature = name if is_simulated(name) else f"{SIMULATED}-{name}"
    try:
        checked: str = TypeAdapter(AnnotatorName).validate_python(signature)
    except ValidationError as error:
        raise ValueError(
            f"annotator: must be letters, digits, spaces or ._@-, and {_MOST} of them at most, "
            f"but got {name!r}"
        ) from error
    return checked
