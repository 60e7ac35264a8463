"""Items as they are handed out: what was enqueued, and how a page shows and answers it."""

from collections.abc import Collection
from dataclasses import asdict

from annotator.item import offered
from annotator.messages import WorkItem
from annotator.page_messages import Decoder, Picture, ZoomRule
from annotator.ports import ClickModels
from engine.tiles import TILE, level_sizes
from storage.queue.items import Item

# In characters of JSON; a thousand proposals have about three times as many.
_SHORT_PAYLOAD = 100_000


class Handout:
    """Makes what goes to a page of what lies in the queue."""

    def __init__(self, models: ClickModels, categories: Collection[str] = ()) -> None:
        self._models = models
        self._categories = categories
        self._decoders: dict[str, Decoder | None] = {}
        self._readers: dict[str, bool] = {}

    def is_short(self, item: Item) -> bool:
        """Whether `work_item` takes no longer than a few milliseconds."""
        known = item.model_version in self._decoders
        return known and len(item.payload_text) <= _SHORT_PAYLOAD

    def work_item(self, item: Item) -> WorkItem:
        """The item for a page, its proposals as they were enqueued.

        What is suggested for them is among the categories of the project, if it has any.
        """
        return WorkItem.model_construct(
            item_id=item.item_id,
            image_id=item.image_id,
            file_name=item.file_name,
            height=item.height,
            width=item.width,
            model_version=item.model_version,
            run_id=item.run_id,
            iteration=item.iteration,
            proposals=offered(item.payload, self._categories),
            picture=Picture(levels=len(level_sizes((item.height, item.width))), tile=TILE),
            decoder=self._decoder(item.model_version),
            reads_text=self._reads_text(item.model_version),
        )

    def _decoder(self, version: str) -> Decoder | None:
        # The first to ask has the model loaded.
        if version not in self._decoders:
            self._decoders[version] = self._described(version)
        return self._decoders[version]

    def _reads_text(self, version: str) -> bool:
        if version not in self._readers:
            self._readers[version] = self._models.reads_text(version)
        return self._readers[version]

    def _described(self, version: str) -> Decoder | None:
        try:
            found = self._models.describe(version)
        except LookupError:
            # Its masks can still be decided on; clicks will say that the model is gone.
            return None
        if found is None:
            return None
        closer = found.closer_look
        return Decoder(
            version=version,
            side=found.side,
            logits_side=found.logits_side,
            closer_look=None if closer is None else ZoomRule(**asdict(closer)),
            urls={
                str(side): f"/api/models/{version}/decoder/{side}?revision={found.revision}"
                for side in found.sides
            },
        )
