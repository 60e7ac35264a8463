"""Names that proposals are offered with: suggestions, until somebody confirms them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from annotator.item import Suggestion
from engine.clip.naming import Calibration
from engine.clip.nearest import packed
from engine.images import Pixels
from engine.rle import Rle
from flows.clip.clips import class_prompts, mask_encoder
from flows.clip.namer import Namer
from flows.workspace import Workspace


@dataclass(frozen=True)
class Suggester:
    """Names masks that are not in the store yet, as `maskloop label` will name them there."""

    namer: Namer
    calibration: Calibration

    @classmethod
    def of(cls, workspace: Workspace) -> Self | None:
        """The workspace's, None where its settings name no classes.

        Raises UsageError for classes or weights that are not what they should be.
        """
        if not workspace.settings.clip.classes:
            return None
        prompts = class_prompts(workspace)
        namer = Namer.of(mask_encoder(workspace), prompts)
        return cls(namer, namer.calibration(workspace))

    def suggestions(self, pixels: Pixels, masks: Sequence[Rle]) -> list[Suggestion | None]:
        """For each mask of (H, W, 3) uint8 RGB what it may be; None for none of the classes."""
        if not masks:
            return []
        # In half the bits, as the store keeps them: the same mask is named alike here and there.
        vectors = packed(self.namer.encoder.vectors(pixels, masks))
        return [
            Suggestion.of(category, score, self.namer.classes_hash)
            for category, score in self.namer.names(vectors, self.calibration)
        ]


def stored_suggestions(workspace: Workspace, mask_ids: Sequence[str]) -> dict[str, Suggestion]:
    """What was said last about masks of the store, of those that no person or file has named."""
    rows = workspace.lake.rows(
        """WITH said AS (
               SELECT mask_id, category, score, classes_hash FROM mask_labels
               WHERE classes_hash IS NOT NULL AND mask_id IN (SELECT unnest(?::VARCHAR[]))
               QUALIFY row_number() OVER (
                   PARTITION BY mask_id ORDER BY created_at DESC, score DESC, classes_hash) = 1)
           SELECT * FROM said WHERE mask_id NOT IN
               (SELECT mask_id FROM mask_names WHERE classes_hash IS NULL)""",
        (list(mask_ids),),
    )
    found = {
        row["mask_id"]: Suggestion.of(row["category"], row["score"], row["classes_hash"])
        for row in rows
    }
    return {mask_id: suggestion for mask_id, suggestion in found.items() if suggestion is not None}
