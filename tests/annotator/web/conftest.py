"""The page's own test runner, and an item with the server's answers to prompts on it."""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.geometry import Frame, Mask, Window, mask_to_box
from engine.model import weights
from engine.model.embedding import ImageEmbedding
from engine.model.graph.decoder import decoder_graph, sides
from engine.model.interactive import Answer, InteractivePredictor, embed_windows
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts

PROJECT = Path(__file__).parents[3]
STYLE = SceneStyle(subject="shapes", hw=(420, 610), num_objects=(12, 12), radius=(6.0, 90.0))


@dataclass
class Told:
    """Prompts on one image, in order, and the server's answers."""

    image: InteractivePredictor
    steps: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[Answer, ...]] = field(default_factory=list)

    def ask(
        self,
        clicks: Sequence[tuple[float, float, int]],
        *,
        box: npt.NDArray[np.float32] | None = None,
        previous: tuple[int, int] | None = None,
        multimask: bool = False,
    ) -> tuple[Answer, ...]:
        """`previous`: the step and which of its answers to go on from."""
        prompt = Prompts(
            points=np.array([[click[:2] for click in clicks]], dtype=np.float32)
            if clicks
            else None,
            labels=np.array([[click[2] for click in clicks]], dtype=np.int64) if clicks else None,
            boxes=None if box is None else box[None],
        )
        if previous is None:
            [answers] = self.image.first(prompt, multimask=multimask)
        else:
            earlier = self.answers[previous[0]][previous[1]]
            [answers] = self.image.again(prompt, [earlier], multimask=multimask)
        self.answers.append(answers)
        self.steps.append(
            {
                "clicks": [{"x": x, "y": y, "label": label} for x, y, label in clicks],
                "box": None if box is None else box.tolist(),
                "previous": previous,
                "multimask": multimask,
                "answers": [_written(answer) for answer in answers],
            }
        )
        return answers


def _written(answer: Answer) -> dict[str, Any]:
    code = rle.encode_one(answer.mask())
    return {"code": {"size": code.size, "counts": code.counts}, "iou": answer.iou}


def inside(mask: Mask) -> tuple[float, float]:
    """The middle of the pixel of a mask that is nearest to its centre."""
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5


def tell(told: Told, mask: Mask) -> None:
    """What people do with an object: click, correct twice, or draw a box and correct it."""
    x, y = inside(mask)
    x0, y0, x1, y1 = (float(side) for side in mask_to_box(mask))
    first = len(told.steps)
    told.ask([(x, y, 1)], multimask=True)
    told.ask([(x, y, 1), (x0 - 2.25, y0 + 1.5, 0)], previous=(first, 1))
    further = [(x, y, 1), (x0 - 2.25, y0 + 1.5, 0), (x1 - 0.5, (y0 + y1) / 2, 1)]
    told.ask(further, previous=(first + 1, 0))
    told.ask([], box=np.array([x0, y0, x1, y1], dtype=np.float32))
    told.ask([(x + 30.0, y, 0)], box=mask_to_box(mask), previous=(first + 3, 0))
    told.ask([(x, y, 1), (x + 120.0, y + 20.0, 1)], previous=(first + 1, 0))


def tell_all(folder: Path, predictor: Predictor) -> Told:
    """Answers on a drawn image; all embeddings that they need are in the folder."""
    scene = draw_scene(7, STYLE)

    def sent(embedding: ImageEmbedding, window: Window | None) -> ImageEmbedding:
        name = "embedding" if window is None else "window-" + "-".join(map(str, window))
        content = embedding.to_bytes()
        (folder / name).write_bytes(content)
        return ImageEmbedding.from_bytes(content)

    def embed(windows: Sequence[Window]) -> list[ImageEmbedding]:
        made = embed_windows(predictor, scene.image, windows)
        return [sent(*pair) for pair in zip(made, windows, strict=True)]

    whole = sent(predictor.embed(scene.image), None)
    told = Told(InteractivePredictor(predictor, whole, embed))
    kinds = set()
    for mask in scene.masks:
        click = Prompts.single_points(np.array([inside(mask)], dtype=np.float32))
        [answers] = told.image.first(click, multimask=True)
        if num_near(answers) not in kinds:
            kinds.add(num_near(answers))
            tell(told, mask)
    return told


def num_near(answers: Sequence[Answer]) -> int:
    """How many of them are of a closer look."""
    return sum(not answer.look.is_whole for answer in answers)


@pytest.fixture(scope="session")
def drawn_item(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with graphs, embeddings, and in cases.json an item and steps with their answers."""
    folder = tmp_path_factory.mktemp("drawn-item")
    model = weights.load(weights.shipped())[0]
    predictor = Predictor(model, version="nano")
    for side in sides(model):
        (folder / f"decoder-{side}").write_bytes(decoder_graph(model, side))
    told = tell_all(folder, predictor)
    near = {num_near(answers) for answers in told.answers}
    assert near == {0, 1, 2, 3}, "all, some and none of three answers must be of a closer look"
    whole = Frame(original_hw=STYLE.hw, side=predictor.frame_side)
    decoder = {
        "version": "nano",
        "side": predictor.frame_side,
        "logits_side": predictor.logits_hw(whole)[0],
        "closer_look": None if model.closer_look is None else asdict(model.closer_look),
        "urls": {str(side): f"/decoder-{side}" for side in sides(model)},
    }
    size = {"height": STYLE.hw[0], "width": STYLE.hw[1]}
    item = {"item_id": "drawn", "model_version": "nano", "decoder": decoder, **size}
    cases = {"item": item, "steps": told.steps}
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    return folder


@pytest.fixture
def run_vitest() -> Callable[[str, Path], None]:
    """Runs a file of tests in annotator/web on the cases in a folder; fails as it does."""

    def run(file: str, cases: Path) -> None:
        done = subprocess.run(
            ["sh", "infra/web.sh", "exec", "--no", "--", "vitest", "run", file],
            cwd=PROJECT,
            env={**os.environ, "MASKLOOP_CASES": str(cases), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    return run
