"""The add-on for texts that the settings name, for those model versions that it was trained for."""

from pathlib import Path

from engine.model.integrity import WeightsError
from engine.model.predictor import Predictor
from engine.model.text.card import read_text_card
from engine.model.text.weights import load_text, shipped_text
from flows.clip.clips import load_clip
from flows.errors import StageError, UsageError
from flows.models import serving
from flows.workspace import Workspace


class TextPrompts:
    """Lets predictors of a workspace read texts; remembers those that do."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._reading: dict[str, Predictor] = {}

    def missing(self, predictor: Predictor) -> str | None:
        """What keeps it from reading texts, in a line; None where nothing does.

        Looks at cards alone, so that asking costs nothing.
        """
        path = self._path()
        if not path.is_file():
            return f"model.text: {path}: no such file; name one in maskloop.toml"
        try:
            card = read_text_card(path)
        except WeightsError as error:
            return f"model.text: {error}"
        if card.encoder_id != predictor.encoder_id:
            return (
                f"text: {predictor.version} reads none, as the text prompts that model.text names "
                "are for another model; click, or draw a box"
            )
        return None

    def reading(self, predictor: Predictor) -> Predictor:
        """The same that reads texts; raises ValueError that says in a line what is missing."""
        version = predictor.version
        if version not in self._reading:
            if missing := self.missing(predictor):
                raise ValueError(missing)
            self._reading[version] = self._loaded(predictor)
        return self._reading[version]

    def _loaded(self, predictor: Predictor) -> Predictor:
        settings = self._workspace.settings
        row = serving.model_row(self._workspace, predictor.version)
        try:
            clip = load_clip(settings.clip, settings.model)
            model = serving.load_model(self._workspace, row)
            return predictor.reading(load_text(self._path(), model, clip))
        except (WeightsError, UsageError, StageError) as error:
            raise ValueError(f"model.text: {error}") from error

    def _path(self) -> Path:
        named = self._workspace.settings.model.text
        return self._workspace.root / Path(named).expanduser() if named else shipped_text()
