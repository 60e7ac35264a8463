"""Models compute on a GPU where there is one, and say so plainly where there is none."""

import numpy as np
import pytest
import torch

from engine.model.device import device_named
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model


@pytest.mark.parametrize(("there", "found"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there: bool, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_named("auto").type == found


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_named("cuda").type == "cuda"
    with pytest.raises(ValueError, match=r"got 'cuda:1' and torch sees 1 GPUs; set \"auto\" or"):
        device_named("cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")
def test_a_gpu_answers_as_the_cpu_does() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    prompts = Prompts.single_points([[20.0, 30.0]])
    answers = []
    for device in ("cpu", "cuda"):
        model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
        predictor = Predictor(model, version="v1", device=device)
        answers.append(predictor.predict(predictor.embed(pixels), prompts, multimask=True))
    torch.testing.assert_close(answers[1].logits, answers[0].logits, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(answers[1].iou, answers[0].iou, rtol=1e-2, atol=1e-2)
