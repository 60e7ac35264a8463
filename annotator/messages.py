"""The requests and answers of the HTTP API, as /docs shows them."""

import base64
import binascii
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, model_validator

from annotator.item import Proposal
from annotator.page_messages import EXAMPLE_DECODER, Decoder, Picture
from annotator.submission import Submission
from annotator.wire import (
    EXAMPLE_MASK,
    MAX_SIDE,
    AnnotatorName,
    Coordinate,
    FromList,
    Label,
    PromptBox,
    Score,
    Segmentation,
    Wire,
)
from storage.queue.people import Role

_MAX_POINTS = 256
_MAX_LOGITS_SIDE = 1024
# SQLite's integers end at 2^63; JSON's are exact to 2^53 only.
_MAX_TOKEN = 2**53 - 1

_PROPOSAL = {
    "proposal_id": "0f343b0931126a20f133d67c2b018a3b",
    "segmentation": EXAMPLE_MASK,
    "bbox": [1.0, 0.0, 2.0, 2.0],
    "area": 4,
    "predicted_iou": 0.91,
    "stability_score": 0.97,
    "point_coords": [[1.5, 1.0]],
    "suggestion": {"category": "mug", "score": 0.83, "classes_hash": "5f2c9a1e77d0b364"},
}


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class Problem(Wire):
    """What went wrong and what to do; every answer from 400 on has this form."""

    model_config = _example(
        error="stale_lease",
        message="item 7c9e: no longer yours; keep your work and claim again",
        remedy="Keep the draft and claim the next item.",
    )

    error: Annotated[str, Field(description="A word for programs.")]
    message: Annotated[str, Field(description="What is wrong: field, rule, value received.")]
    remedy: Annotated[str, Field(description="What to do about it.")]


class SignInRequest(Wire):
    """A personal token, as `maskloop annotators add` printed it."""

    model_config = _example(token="mlp_4f1c2b...")

    token: Annotated[str, Field(min_length=1, max_length=200)]


class Session(Wire):
    """Who is signed in; `csrf_token` goes into the header X-CSRF-Token of requests that write."""

    model_config = _example(
        name="ada",
        role="annotator",
        csrf_token="k9wX...",
        sign_in_required=True,
        categories=["nucleus"],
    )

    name: Annotated[str | None, Field(description="null where nobody signs in.")]
    role: Role
    csrf_token: Annotated[str | None, Field(description="null for programs, which need none.")]
    sign_in_required: bool
    categories: Annotated[
        tuple[str, ...], FromList, Field(description="What masks may show; empty: any name.")
    ]


_Annotator = Annotated[
    AnnotatorName | None,
    Field(description="Who works; where people sign in, whoever did, and may be left out."),
]


class LeaseRequest(Wire):
    """Who asks for work."""

    model_config = _example(annotator="ada")

    annotator: _Annotator = None


class HeldRequest(Wire):
    """Which lease the caller means: by the token that came with it."""

    model_config = _example(annotator="ada", lease_token=3)

    annotator: _Annotator = None
    lease_token: Annotated[int, Field(ge=0, le=_MAX_TOKEN)]


class SubmitRequest(HeldRequest):
    """The whole answer to an item."""

    model_config = _example(
        annotator="ada",
        lease_token=3,
        submission={
            "decisions": [{"proposal_id": _PROPOSAL["proposal_id"], "action": "accepted"}],
            "added": [
                {
                    "segmentation": EXAMPLE_MASK,
                    "clicks": [{"x": 1.5, "y": 1.0, "label": 1, "at_s": 4.1, "predicted_iou": 0.9}],
                }
            ],
            "seconds": 12.5,
        },
    )

    submission: Submission


class WorkItem(Wire):
    """An image to work on, with the masks that the model offers."""

    item_id: str
    image_id: str
    file_name: str
    height: int
    width: int
    model_version: Annotated[str, Field(description="Made the proposals and answers the clicks.")]
    run_id: str
    iteration: int
    # No Sequence, which pydantic writes one by one in Python.
    proposals: list[Proposal]
    picture: Picture
    decoder: Annotated[Decoder | None, Field(description="Null: ask for masks by predict.")]
    reads_text: Annotated[bool, Field(description="Whether its model finds masks by a text.")]


class PeekAnswer(Wire):
    """The item that the caller would be given next if nobody else came; null when none waits."""

    item: WorkItem | None


class Lease(Wire):
    """The right to work on an item; every write shows `lease_token`."""

    item: WorkItem
    lease_token: int
    expires_in_s: Annotated[float, Field(description="A heartbeat starts it anew.")]
    heartbeat_s: Annotated[float, Field(description="How often to send one.")]


class Counts(Wire):
    """Items by state."""

    model_config = _example(ready=12, leased=2, done=30, dead=0)

    ready: int
    leased: int
    done: int
    dead: int


class LeaseAnswer(Wire):
    """A lease, or null when nothing waits; then `counts.leased` says whether others still work."""

    model_config = _example(
        lease={
            "item": {
                "item_id": "7c9e6679e7f04cd3a0a3b1e3b0f9a1d2",
                "image_id": "9f86d081884c7d659a2feaa0c55ad015",
                "file_name": "plate-07.png",
                "height": 4,
                "width": 6,
                "model_version": "v2",
                "run_id": "0b5e",
                "iteration": 2,
                "proposals": [_PROPOSAL],
                "picture": {"levels": 1, "tile": 512},
                "decoder": EXAMPLE_DECODER,
                "reads_text": True,
            },
            "lease_token": 3,
            "expires_in_s": 120.0,
            "heartbeat_s": 20.0,
        },
        counts={"ready": 11, "leased": 1, "done": 30, "dead": 0},
    )

    lease: Lease | None
    counts: Counts


class HeartbeatAnswer(Wire):
    """The seconds that the lease now has; 0 once it has reached its longest possible time."""

    model_config = _example(expires_in_s=120.0)

    expires_in_s: float


class SubmitAnswer(Wire):
    """The item is done; the same submission again gets the same answer."""

    model_config = _example(
        submission_id="3e2f", item_id="7c9e6679e7f04cd3a0a3b1e3b0f9a1d2", state="done"
    )

    submission_id: str
    item_id: str
    state: str


class RunCounts(Counts):
    """One run's items by state."""

    model_config = _example(run_id="0b5e", ready=4, leased=2, done=10, dead=0)

    run_id: str


class ProgressAnswer(Wire):
    """How far the queue is."""

    model_config = _example(
        counts={"ready": 12, "leased": 2, "done": 30, "dead": 0},
        run={"run_id": "0b5e", "ready": 4, "leased": 2, "done": 10, "dead": 0},
    )

    counts: Counts
    run: Annotated[RunCounts | None, Field(description="The run asked for by ?run_id=")] = None


class HealthAnswer(Wire):
    """The server answers and reaches its queue."""

    status: Literal["ok"] = "ok"


class Logits(Wire):
    """A low-resolution mask before its threshold: float16, little-endian, row by row, in base64."""

    model_config = _example(size=[1, 2], float16="AEAAwA==")

    size: Annotated[
        tuple[
            Annotated[int, Field(ge=1, le=_MAX_LOGITS_SIDE)],
            Annotated[int, Field(ge=1, le=_MAX_LOGITS_SIDE)],
        ],
        FromList,
        Field(description="[height, width]"),
    ]
    float16: Annotated[str, Field(max_length=4 * _MAX_LOGITS_SIDE**2)]

    @model_validator(mode="after")
    def _readable(self) -> Self:
        self.to_array()
        return self

    def to_array(self) -> npt.NDArray[np.float32]:
        """(h, w) float32; raises ValueError unless the bytes fit the size and all are finite."""
        try:
            data = base64.b64decode(self.float16, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("float16: must be base64") from error
        height, width = self.size
        if len(data) != 2 * height * width:
            raise ValueError(f"float16: must hold {2 * height * width} bytes, got {len(data)}")
        array = np.frombuffer(data, dtype="<f2").reshape(height, width).astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError("float16: must be finite numbers")
        return array

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32]) -> Self:
        """(h, w) float32 -> what travels; values are clipped to +-1e4, far beyond saturation."""
        half = np.clip(logits, -1e4, 1e4).astype("<f2")
        height, width = half.shape
        return cls(size=(height, width), float16=base64.b64encode(half.tobytes()).decode("ascii"))


_Point = Annotated[tuple[Coordinate, Coordinate], FromList]
_Side = Annotated[int, Field(ge=0, le=MAX_SIDE)]
_Window = Annotated[
    tuple[_Side, _Side, _Side, _Side],
    FromList,
    Field(description="The part (x0, y0, x1, y1) of the image that the logits show; null: all."),
]


class PredictRequest(Wire):
    """A prompt in pixels of the original image: clicks, a box (x0, y0, x1, y1), or both.

    `logits` and `window` are the mask so far, as an earlier answer gave them. Without `multimask`,
    one click alone is ambiguous and gets three masks (whole, part, subpart); anything more gets
    one.
    """

    model_config = _example(points=[[120.5, 80.0], [96.0, 88.0]], labels=[1, 0])

    points: Annotated[tuple[_Point, ...], FromList, Field(max_length=_MAX_POINTS)] = ()
    labels: Annotated[tuple[Label, ...], FromList, Field(max_length=_MAX_POINTS)] = ()
    box: PromptBox | None = None
    logits: Logits | None = None
    window: _Window | None = None
    multimask: bool | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len(self.points) != len(self.labels):
            raise ValueError(
                f"labels: must be one per point, got {len(self.labels)} for {len(self.points)}"
            )
        if not self.points and self.box is None:
            raise ValueError("points: must have at least one point, or give a box")
        if self.window is not None and self.logits is None:
            raise ValueError("window: must come with the logits of the same answer")
        return self

    @property
    def wants_multimask(self) -> bool:
        """Whether to answer with three masks."""
        if self.multimask is not None:
            return self.multimask
        return len(self.points) == 1 and self.box is None and self.logits is None

    def check_inside(self, hw: tuple[int, int]) -> None:
        """Raise ValueError unless all coordinates lie in an image of size `hw`."""
        height, width = hw
        corners = () if self.box is None else ((self.box[0], self.box[1]), self.box[2:])
        for name, places in (("points", self.points), ("box", corners)):
            for x, y in places:
                if x > width or y > height:
                    raise ValueError(
                        f"{name}: must be in the image, {width} wide and {height} high, "
                        f"got ({x}, {y})"
                    )


class PredictedMask(Wire):
    """One mask, how good the model thinks it is, and its logits to go on from.

    Of a small object the model takes a closer look; then the logits are those of a `window`.
    """

    segmentation: Segmentation
    predicted_iou: Score
    logits: Logits
    window: _Window | None = None


class PredictAnswer(Wire):
    """One mask, or whole, part and subpart in the model's order."""

    model_config = _example(
        model_version="v2",
        masks=[
            {
                "segmentation": EXAMPLE_MASK,
                "predicted_iou": 0.91,
                "logits": {"size": [1, 2], "float16": "AEAAwA=="},
            }
        ],
    )

    model_version: str
    masks: tuple[PredictedMask, ...]
