"""What a page is told of an item besides its masks: how to show it and how to answer clicks."""

from typing import Annotated

from pydantic import Field

from annotator.wire import Wire

EXAMPLE_DECODER = {
    "version": "v2",
    "side": 512,
    "logits_side": 128,
    "closer_look": {"max_area": 1500, "side": 256, "context": 3, "min_side": 64, "min_zoom": 1.3},
    "urls": {
        "512": "/api/models/v2/decoder/512?revision=9f86d081884c7d65-1",
        "256": "/api/models/v2/decoder/256?revision=9f86d081884c7d65-1",
    },
}


class Picture(Wire):
    """What there is of an item's picture: GET /api/items/{item_id}/image and .../tiles/..."""

    levels: Annotated[int, Field(description="0 is full size, each further one half of it.")]
    tile: Annotated[int, Field(description="The side of a tile in pixels.")]


class ZoomRule(Wire):
    """When a mask is small enough for a look of its own, and how near that goes.

    Below `max_area` pixels of its image's frame it is; the window's side is `context` times that of
    the box around mask and clicks, at least `min_side` pixels, and must be `min_zoom` times smaller
    than the image's longer side. It is seen in a frame of `side` pixels.
    """

    max_area: float
    side: int
    context: float
    min_side: int
    min_zoom: float


class Decoder(Wire):
    """What a page needs to answer clicks by itself, from GET /api/items/{item_id}/embedding."""

    version: str
    side: Annotated[int, Field(description="Of the frame of a whole image, in pixels.")]
    logits_side: Annotated[int, Field(description="Of the masks in that frame.")]
    closer_look: ZoomRule | None
    urls: Annotated[dict[str, str], Field(description="ONNX graphs by the side of the frame.")]
