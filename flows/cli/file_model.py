"""The options by which commands on files, without a workspace, are told their model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.files.file_model import ChosenModel
    from flows.progress import Progress

_PANEL = "Which model (of IMAGES)"

CheckpointOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        help="Weights; default: those that ship.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        "--arch",
        "--model-type",
        help="Of the checkpoint, such as vit_b.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Sha256Option = Annotated[
    str | None,
    typer.Option(
        "--sha256",
        help="Of the checkpoint, where it is a URL.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="auto, cpu, cuda or cuda:1; default: auto.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Weights:
    """Which model, as the options name it."""

    checkpoint: str | None
    arch: str | None
    sha256: str | None
    device: str | None

    def chosen(self, recipe: str | None, progress: "Progress") -> "ChosenModel":
        """That model; raises UsageError for what does not fit together."""
        from flows.files.file_model import model_of

        return model_of(self.checkpoint, self.arch, self.sha256, self.device, recipe, progress)
