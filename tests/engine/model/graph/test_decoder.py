"""The exported graph answers each prompt as the model itself does."""

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from engine.model import weights
from engine.model.embedding import ImageEmbedding
from engine.model.graph.decoder import decoder_graph, sides
from engine.model.predictor import Predictor
from engine.model.prompt_encoder import POSITIVE, PromptTensors
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model, with_backbone
from engine.model.sam import PromptableSam

HW = (300, 420)


def shipped() -> PromptableSam:
    data = (resources.files("engine.model") / "shipped" / "nano.safetensors").read_bytes()
    return weights.load(data)[0]


def nano_tiny() -> PromptableSam:
    return build_model(ModelConfig(architecture="nano_tiny"), seed=0)


MODELS: dict[str, Callable[[], PromptableSam]] = {
    "nano": shipped,
    "nano_tiny": nano_tiny,
}
FRAMES = [("nano", 512), ("nano", 256), ("nano_tiny", 256)]


@cache
def model(name: str) -> PromptableSam:
    return MODELS[name]().eval()


@cache
def graph(name: str, side: int) -> bytes:
    return decoder_graph(model(name), side)


@cache
def session(name: str, side: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        graph(name, side), options, providers=["CPUExecutionProvider"]
    )


@cache
def embedding(name: str, side: int) -> ImageEmbedding:
    """Of a picture with a bright disk on a slope."""
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    picture = np.stack([rows // 3, columns // 3, (rows + columns) // 6], axis=-1)
    picture[(rows - 150) ** 2 + (columns - 200) ** 2 < 70**2] = (230, 200, 60)
    predictor = Predictor(model(name), version="v")
    return predictor.embed(picture.astype(np.uint8), side=side)


def run(name: str, side: int, prompts: Prompts) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(1, 4, h, w) logits and (1, 4) IoU of the graph."""
    tensors = prompts.to_tensors(embedding(name, side).frame, logits_hw(name, side))
    given = inputs(name, side, tensors.points, tensors.labels)
    if tensors.mask_logits is not None:
        given |= {"mask_logits": tensors.mask_logits, "has_mask": torch.ones(1)}
    feed = {key: value.contiguous().numpy() for key, value in given.items()}
    logits, iou = session(name, side).run(["logits", "iou"], feed)
    return logits, iou


def inputs(name: str, side: int, points: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Of a prompt without an earlier answer."""
    seen = embedding(name, side)
    given = {
        "features": seen.features[None].contiguous(),
        "points": points,
        "labels": labels,
        "mask_logits": torch.zeros(1, 1, *logits_hw(name, side)),
        "has_mask": torch.zeros(1),
    }
    if seen.skips is not None:
        given |= {"skip_2x": seen.skips[0][None], "skip_4x": seen.skips[1][None]}
    return {key: value.contiguous() for key, value in given.items()}


def logits_hw(name: str, side: int) -> tuple[int, int]:
    return Predictor(model(name), version="v").logits_hw(embedding(name, side).frame)


def check(name: str, side: int, prompts: Prompts) -> None:
    logits, iou = run(name, side, prompts)
    predictor = Predictor(model(name), version="v")
    for which, multimask in ((slice(0, 1), False), (slice(1, 4), True)):
        expected = predictor.predict(embedding(name, side), prompts, multimask=multimask)
        np.testing.assert_allclose(logits[:, which], expected.logits.numpy(), atol=1e-3, rtol=1e-4)
        given = np.clip(iou[:, which], 0, 1)
        np.testing.assert_allclose(given, expected.iou.numpy(), atol=1e-4)


def clicks(num: int, seed: int = 0) -> Prompts:
    random = np.random.default_rng(seed)
    places = random.uniform((0, 0), (HW[1], HW[0]), size=(num, 2))
    return Prompts.clicks([(x, y) for x, y in places], random.integers(0, 2, size=num).tolist())


def with_mask(prompts: Prompts, name: str, side: int) -> Prompts:
    """The same, going on from the answer to a click in the middle of the disk."""
    first = Prompts.clicks([(200.0, 150.0)], [1])
    found = Predictor(model(name), version="v").predict(
        embedding(name, side), first, multimask=False
    )
    return Prompts(
        points=prompts.points,
        labels=prompts.labels,
        boxes=prompts.boxes,
        mask_logits=found.logits[:, 0].numpy(),
    )


BOX = np.array([[120.0, 70.0, 280.0, 225.0]], dtype=np.float32)
PROMPTS = {
    "a click": Prompts.clicks([(200.0, 150.0)], [1]),
    "a negative click": Prompts.clicks([(30.0, 20.0)], [0]),
    "several clicks": Prompts.clicks([(200.0, 150.0), (20.0, 30.0), (240.0, 170.0)], [1, 0, 1]),
    "a box": Prompts(boxes=BOX),
    "a box and a click": Prompts(
        points=np.array([[[130.0, 80.0]]], np.float32), labels=np.array([[0]]), boxes=BOX
    ),
}


@pytest.mark.parametrize(("name", "side"), FRAMES)
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS.keys())
def test_it_answers_as_the_model(name: str, side: int, prompts: Prompts) -> None:
    check(name, side, prompts)


@pytest.mark.parametrize(("name", "side"), FRAMES)
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS.keys())
def test_it_goes_on_from_an_earlier_answer(name: str, side: int, prompts: Prompts) -> None:
    going_on = with_mask(prompts, name, side)
    check(name, side, going_on)
    assert not np.allclose(run(name, side, going_on)[0], run(name, side, prompts)[0], atol=1e-2)


@pytest.mark.parametrize(("name", "side"), FRAMES)
def test_it_takes_as_many_clicks_as_there_are(name: str, side: int) -> None:
    for num in range(1, 21):
        prompts = clicks(num, seed=num)
        check(name, side, prompts if num % 2 else with_mask(prompts, name, side))


def test_a_page_gets_float16_and_answers_nearly_the_same() -> None:
    """Of trained weights: what halves the way to the page hardly moves a mask."""
    predictor = Predictor(model("nano"), version="v")
    sharp = embedding("nano", 512)
    for prompts in PROMPTS.values():
        exact, kept = (
            predictor.predict(seen, prompts, multimask=True) for seen in (sharp, sharp.as_kept())
        )
        np.testing.assert_allclose(kept.logits.numpy(), exact.logits.numpy(), atol=0.05)
        np.testing.assert_allclose(kept.iou.numpy(), exact.iou.numpy(), atol=0.01)
        differ = (kept.masks() != exact.masks()).mean()
        assert differ < 1e-3


@pytest.mark.parametrize(("name", "side"), FRAMES)
def test_it_takes_a_lone_point(name: str, side: int) -> None:
    """Where nobody adds the point that is none, as prompts without a box have it."""
    points, labels = torch.tensor([[[100.0, 80.0]]]), torch.tensor([[POSITIVE]])
    feed = {key: value.numpy() for key, value in inputs(name, side, points, labels).items()}
    logits, iou = session(name, side).run(["logits", "iou"], feed)
    with torch.inference_mode():
        asked = PromptTensors(points=points, labels=labels)
        expected = model(name).decode(embedding(name, side).batch(), torch.tensor([0]), asked)
    np.testing.assert_allclose(logits, expected[0].numpy(), atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(iou, expected[1].numpy(), atol=1e-4)


@pytest.mark.parametrize(("name", "side"), FRAMES)
def test_what_it_takes_and_gives_is_what_a_page_is_told(name: str, side: int) -> None:
    cells, channels = side // 16, {"nano": 64, "nano_tiny": 32}[name]
    taken = {item.name: (item.type, item.shape) for item in session(name, side).get_inputs()}
    num_points = taken["points"][1][1]
    expected = {
        "features": ("tensor(float)", [1, channels, cells, cells]),
        "points": ("tensor(float)", [1, num_points, 2]),
        "labels": ("tensor(int64)", [1, num_points]),
        "mask_logits": ("tensor(float)", [1, 1, 4 * cells, 4 * cells]),
        "has_mask": ("tensor(float)", [1]),
        "skip_2x": ("tensor(float)", [1, channels // 4, 2 * cells, 2 * cells]),
        "skip_4x": ("tensor(float)", [1, channels // 8, 4 * cells, 4 * cells]),
    }
    assert taken == expected
    given = {item.name: (item.type, item.shape) for item in session(name, side).get_outputs()}
    assert given == {
        "logits": ("tensor(float)", [1, 4, 4 * cells, 4 * cells]),
        "iou": ("tensor(float)", [1, 4]),
    }


@pytest.mark.parametrize(("name", "side"), FRAMES)
def test_it_is_a_plain_graph(name: str, side: int) -> None:
    read = onnx.load_from_string(graph(name, side))
    onnx.checker.check_model(read, full_check=True)
    assert [opset.domain for opset in read.opset_import] == [""]
    kinds = [node.op_type for node in read.graph.node]
    assert not {"Shape", "Expand", "ScatterND", "Loop", "If", "Scan", "Range"} & set(kinds)
    # Both sides of a frame differ in their constants alone.
    assert kinds == [node.op_type for node in onnx.load_from_string(graph("nano", 512)).graph.node]


def test_a_model_has_a_graph_for_each_side_that_it_sees() -> None:
    assert sides(model("nano")) == (512, 256)
    assert sides(model("nano_tiny")) == (256,)
    with pytest.raises(ValueError, match=r"side: must be one of \(512, 256\), but got 300"):
        decoder_graph(model("nano"), 300)


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="model: must be of nano's kind"):
        decoder_graph(with_backbone("resnet18", 128), 128)


def test_the_same_weights_give_the_same_bytes() -> None:
    assert decoder_graph(nano_tiny(), 256) == graph("nano_tiny", 256)


def test_exporting_leaves_the_model_as_it_was() -> None:
    own = nano_tiny()
    before = {key: value.clone() for key, value in own.state_dict().items()}
    decoder_graph(own, 256)
    assert own.state_dict().keys() == before.keys()
    for key, value in own.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
