"""How programs sign their submissions, so that nobody takes their work for a person's."""

SIMULATED = "simulated"


def is_simulated(annotator: str) -> bool:
    """Whether a program signs with this name: `simulated`, `simulated-NAME`."""
    return annotator == SIMULATED or annotator.startswith(f"{SIMULATED}-")


def simulated_signature(name: str) -> str:
    """What a simulated annotator called `name` signs with."""
    return name if is_simulated(name) else f"{SIMULATED}-{name}"
