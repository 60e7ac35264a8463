"""Drawn images, a click model that is easy to predict, and a real queue behind a real API."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import torch
import uvicorn
from fastapi import FastAPI
from scipy.ndimage import binary_dilation, binary_erosion
from starlette.types import Receive, Scope, Send

from annotator.app import create_app
from annotator.config import AnnotatorConfig
from annotator.item import ItemPayload, Proposal
from annotator.ports import DecoderDescription, Found
from engine import coco, rle, tiles
from engine.coco import CocoImage, CocoMask
from engine.generation.by_text import TextMask
from engine.geometry import Frame, Mask, Window
from engine.model.closer_look import CloserLook
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import Answer, Look
from engine.model.prompts import Prompts
from engine.rle import Rle
from storage.queue.items import NewItem
from storage.queue.people import People, Role
from storage.queue.review import ReviewQueue

HW = (96, 128)
IN_PAGE = DecoderDescription(
    side=128, logits_side=128, closer_look=CloserLook(max_area=50, side=64), revision="abc-1"
)


@dataclass(frozen=True)
class Picture:
    """An image with its true masks, as disks on noise."""

    image_id: str
    file_name: str
    pixels: npt.NDArray[np.uint8]
    masks: list[Mask]


def disk(x: float, y: float, radius: float, hw: tuple[int, int] = HW) -> Mask:
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    return (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < radius**2


def draw(number: int, disks: list[tuple[float, float, float]]) -> Picture:
    random = np.random.default_rng(number)
    pixels = random.integers(60, 90, size=(*HW, 3), dtype=np.uint8)
    masks = [disk(*place) for place in disks]
    for index, mask in enumerate(masks):
        pixels[mask] = (200 - 20 * index, 120 + 10 * index, 90)
    return Picture(f"{number:032x}", f"picture-{number}.png", pixels, masks)


def payload(masks: Sequence[Mask]) -> dict[str, Any]:
    """Proposals of these masks, `p0`, `p1` ..., each made by a click on its middle."""
    proposals = []
    for index, mask in enumerate(masks):
        x0, y0, x1, y1 = (float(value) for value in rle.box(rle.encode_one(mask)))
        proposals.append(
            Proposal(
                proposal_id=f"p{index}",
                segmentation=rle.encode_one(mask),
                bbox=[x0, y0, x1 - x0, y1 - y0],
                area=int(mask.sum()),
                predicted_iou=0.9,
                stability_score=0.95,
                point_coords=[[(x0 + x1) / 2, (y0 + y1) / 2]],
            )
        )
    return ItemPayload(proposals=proposals).to_dict()


def new_item(picture: Picture, masks: Sequence[Mask], **changes: Any) -> NewItem:
    values = {
        "image_id": picture.image_id,
        "file_name": picture.file_name,
        "height": HW[0],
        "width": HW[1],
        "model_version": "v1",
        "run_id": "run-1",
        "iteration": 1,
        "priority": 0.0,
        "payload": payload(masks),
    }
    return NewItem(**{**values, **changes})


def looking_at(window: Window | None) -> Look:
    """At a window or the whole of a picture, whose pixels are the frame's."""
    x0, y0, x1, y1 = window or (0, 0, HW[1], HW[0])
    frame = Frame(original_hw=(y1 - y0, x1 - x0), side=max(x1 - x0, y1 - y0))
    nothing = torch.zeros(1, 1, 1)
    embedding = ImageEmbedding(features=nothing, skips=None, frame=frame, encoder_id="disks")
    return Look((x0, y0, x1, y1), HW, embedding)


def logits_of(mask: Mask, look: Look) -> torch.Tensor:
    """Those that give the part of a mask (H, W) that the look shows."""
    x0, y0, x1, y1 = look.window
    side = look.embedding.frame.side
    logits = np.full((side, side), -8.0, dtype=np.float32)
    logits[: y1 - y0, : x1 - x0][mask[y0:y1, x0:x1]] = 8.0
    return torch.from_numpy(logits)


@dataclass
class DiskModel:
    """A stand-in for a model: it finds the disk under the last positive click.

    It answers in the window that it is asked in, and looks closer where `closer` says so.

    The first click on a disk gives it too small by 4 pixels, the second by 2, from the third on it
    is exact. A mask number in `stubborn` never gets better than its first answer.
    """

    pictures: dict[str, Picture]
    stubborn: set[int] = field(default_factory=set)
    closer: Window | None = None
    versions: dict[str, DecoderDescription | None] = field(
        default_factory=lambda: {"v1": IN_PAGE, "v2": None}
    )
    asked: list[tuple[str, bool]] = field(default_factory=list)

    def predict(
        self,
        image_id: str,
        model_version: str,
        prompt: Prompts,
        *,
        window: Window | None,
        multimask: bool,
    ) -> list[Answer]:
        if image_id not in self.pictures:
            raise LookupError(image_id)
        self.asked.append((model_version, multimask))
        picture = self.pictures[image_id]
        mask = self._mask(picture, prompt)
        shapes = [mask]
        if multimask:
            shapes = [binary_dilation(mask, iterations=3), mask, binary_erosion(mask, iterations=3)]
        look = looking_at(window or self.closer)
        return [
            Answer(logits=logits_of(shape, look), iou=iou, look=look)
            for shape, iou in zip(shapes, (0.6, 0.8, 0.4), strict=False)
        ]

    def embedding(self, image_id: str, model_version: str, window: Window | None) -> bytes:
        if image_id not in self.pictures or model_version not in self.versions:
            raise LookupError(f"{image_id}, {model_version}")
        if window is not None and (window[2] > HW[1] or window[3] > HW[0]):
            raise ValueError(f"window: must be in the image, but got {window}")
        return looking_at(window).embedding.to_bytes()

    def reads_text(self, model_version: str) -> bool:
        return model_version == "v1"

    def find(self, image_id: str, model_version: str, text: str) -> Found:
        """Every disk, where a text speaks of disks."""
        if image_id not in self.pictures:
            raise LookupError(image_id)
        if not self.reads_text(model_version):
            raise ValueError("model.text: none.safetensors: no such file")
        masks = rle.encode(self.pictures[image_id].masks) if "disk" in text else []
        found = (TextMask(rle=m, score=0.8, predicted_iou=1.02, point_xy=(1, 1)) for m in masks)
        return Found(presence=0.9 if masks else 0.1, masks=tuple(found))

    def describe(self, model_version: str) -> DecoderDescription | None:
        if model_version not in self.versions:
            raise LookupError(model_version)
        return self.versions[model_version]

    def decoder(self, model_version: str, side: int) -> bytes:
        described = self.describe(model_version)
        if described is None or side not in described.sides:
            raise LookupError(f"no decoder for frames of {side}")
        return f"the graph of {model_version} for {side}".encode()

    def _mask(self, picture: Picture, prompt: Prompts) -> Mask:
        if prompt.points is None:
            assert prompt.boxes is not None
            x0, y0, x1, y1 = np.asarray(prompt.boxes)[0]
            clicks = [((x0 + x1) / 2, (y0 + y1) / 2, 1)]
        else:
            points, labels = np.asarray(prompt.points)[0], np.asarray(prompt.labels)[0]
            clicks = [(x, y, label) for (x, y), label in zip(points, labels, strict=True)]
        for x, y, label in reversed(clicks):
            for index, mask in enumerate(picture.masks):
                if label == 1 and mask[int(y), int(x)]:
                    missing = 4 if index in self.stubborn else max(0, 4 - 2 * (len(clicks) - 1))
                    return binary_erosion(mask, iterations=missing) if missing else mask
        return np.zeros(HW, dtype=bool)


@dataclass
class PictureSource:
    """The drawn images, by id."""

    pictures: dict[str, Picture]

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        return self.pictures[image_id].pixels

    def part(self, image_id: str, level: int, window: Window) -> npt.NDArray[np.uint8]:
        return tiles.part_of(self.pictures[image_id].pixels, level, window)


@dataclass
class Server:
    """A real server on loopback for all tests; each puts its own app behind it."""

    url: str = ""
    app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None, "a request without a test"
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    shared = Server()
    config = uvicorn.Config(shared, port=0, ws="none", lifespan="off", log_config=None)
    running = uvicorn.Server(config)
    listening = config.bind_socket()
    # As `flows.annotating.people.listen` does: else each answer waits 40 ms for the
    # acknowledgement of its headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shared.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread = threading.Thread(target=running.run, args=([listening],), daemon=True)
    thread.start()
    yield shared
    running.should_exit = True
    thread.join(timeout=10)
    listening.close()


@dataclass
class Desk:
    """A queue with three images, and everything the API is made of."""

    pictures: list[Picture]
    queue: ReviewQueue
    models: DiskModel
    images: PictureSource
    server: Server
    finished: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, **config: Any) -> Iterator[httpx.Client]:
        """A real server over this desk, and a client of it."""
        self.server.app = create_app(
            queue=self.queue,
            models=self.models,
            images=self.images,
            config=AnnotatorConfig(**config),
            on_batch_done=self.finished.append,
        )
        # Without certificates to verify: reading them takes longer than most tests.
        with httpx.Client(base_url=self.server.url, trust_env=False, verify=False) as client:
            yield client

    def new_item(self, picture: Picture, masks: Sequence[Mask] = (), **changes: Any) -> NewItem:
        return new_item(picture, masks, **changes)

    def truth(self) -> dict[str, list[Rle]]:
        """The true masks by file name."""
        return {picture.file_name: rle.encode(picture.masks) for picture in self.pictures}

    def write_truth(self, path: Path, **names: str) -> Path:
        """A COCO file of these images; `image_1="x.png"` gives the first another name."""
        images, masks = [], []
        for number, picture in enumerate(self.pictures, start=1):
            name = names.get(f"image_{number}", picture.file_name)
            images.append(CocoImage(id=number, file_name=name, height=HW[0], width=HW[1]))
            for mask in rle.encode(picture.masks):
                identity = {"id": len(masks) + 1, "image_id": number, "is_crowd": False}
                masks.append(CocoMask(**identity, category="disk", rle=mask))
        path.write_text(json.dumps(coco.document(images, masks, {1: "disk"}, {})))
        return path


@pytest.fixture(scope="session")
def pictures() -> list[Picture]:
    return [
        draw(1, [(30, 30, 18), (90, 40, 20), (50, 75, 12)]),
        draw(2, [(40, 50, 25), (100, 60, 15)]),
        draw(3, [(64, 48, 30)]),
    ]


@pytest.fixture(scope="session")
def filled_queue(pictures: list[Picture], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A queue's file, made once and copied: making one takes longer than most tests.

    The first image proposes a disk exactly, one shifted, and one where there is nothing.
    """
    file = tmp_path_factory.mktemp("filled") / "queue.sqlite"
    queue = ReviewQueue.open(f"sqlite:///{file}")
    first, second, third = pictures
    offered = [first.masks[0], disk(97, 40, 20), disk(110, 85, 8)]
    queue.enqueue(
        [
            new_item(first, offered, priority=3.0),
            new_item(second, [], priority=2.0),
            new_item(third, [third.masks[0]], priority=1.0),
        ]
    )
    queue.close()
    return file.read_bytes()


@pytest.fixture
def desk(
    pictures: list[Picture], filled_queue: bytes, tmp_path: Path, server: Server
) -> Iterator[Desk]:
    file = tmp_path / "queue.sqlite"
    file.write_bytes(filled_queue)
    by_id = {picture.image_id: picture for picture in pictures}
    queue = ReviewQueue.open(f"sqlite:///{file}")
    yield Desk(pictures, queue, DiskModel(by_id), PictureSource(by_id), server)
    queue.close()


@pytest.fixture
def api(desk: Desk) -> Iterator[httpx.Client]:
    with desk.open() as client:
        yield client


@dataclass
class Team:
    """The people of a desk's queue, and clients that are signed in as them."""

    desk: Desk
    people: People
    clients: list[httpx.Client] = field(default_factory=list)

    def program(self, name: str, role: Role = "annotator") -> httpx.Client:
        """A program that shows the token of somebody who has just been let in."""
        return self.client({"Authorization": f"Bearer {self.people.add(name, role)}"})

    def browser(self, name: str, role: Role = "annotator") -> httpx.Client:
        """A browser that somebody who has just been let in has signed in with."""
        return self.sign_in(self.people.add(name, role))

    def sign_in(self, token: str) -> httpx.Client:
        """A browser with the session of a token's owner, which sends what their page sends."""
        client = self.client({})
        answer = client.post("/api/session", json={"token": token})
        assert answer.status_code == 200, answer.text
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return client

    def client(self, headers: dict[str, str] | dict[bytes, bytes]) -> httpx.Client:
        """Somebody who sends these headers."""
        made = httpx.Client(
            base_url=self.desk.server.url, headers=headers, trust_env=False, verify=False
        )
        self.clients.append(made)
        return made


@pytest.fixture
def team(desk: Desk) -> Iterator[Team]:
    """A server of a queue to which people can be let in; its own client is a stranger."""
    with desk.open():
        made = Team(desk, People(desk.queue.database))
        yield made
        for client in made.clients:
            client.close()
