"""A prompt in, masks out."""

import base64
import threading
from typing import Any

import httpx
import numpy as np
import pytest

from engine import rle
from engine.rle import Rle


@pytest.fixture
def item_id(api: httpx.Client) -> str:
    lease = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]
    return str(lease["item"]["item_id"])


def predict(api: httpx.Client, item_id: str, **prompt: Any) -> httpx.Response:
    return api.post(f"/api/items/{item_id}/predict", json=prompt)


def mask_of(answer: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found = answer["segmentation"]
    return rle.decode(Rle(tuple(found["size"]), found["counts"]))


def test_one_click_alone_gets_three_masks_to_choose_from(
    api: httpx.Client, item_id: str, desk: Any
) -> None:
    answer = predict(api, item_id, points=[[30, 30]], labels=[1])
    assert answer.status_code == 200
    body = answer.json()
    assert body["model_version"] == "v1"
    assert [mask["predicted_iou"] for mask in body["masks"]] == pytest.approx([0.6, 0.8, 0.4])
    whole, part, subpart = (mask_of(mask) for mask in body["masks"])
    assert whole.shape == (96, 128)
    assert whole.sum() > part.sum() > subpart.sum() > 0
    assert desk.models.asked == [("v1", True)]


@pytest.mark.parametrize(
    ("prompt", "num_masks"),
    [
        pytest.param({"points": [[30, 30], [35, 30]], "labels": [1, 1]}, 1, id="two clicks"),
        pytest.param({"box": [12, 12, 48, 48]}, 1, id="a box"),
        pytest.param({"box": [12, 12, 48, 48], "points": [[30, 30]], "labels": [1]}, 1, id="both"),
        pytest.param({"box": [12, 12, 48, 48], "multimask": True}, 3, id="a box, asked for three"),
        pytest.param({"points": [[3, 3]], "labels": [1], "multimask": False}, 1, id="one asked"),
        pytest.param({"points": [[5, 5]] * 2, "labels": [0, 0]}, 1, id="nothing there"),
    ],
)
def test_how_many_masks_a_prompt_gets(
    api: httpx.Client, item_id: str, prompt: dict[str, Any], num_masks: int
) -> None:
    answer = predict(api, item_id, **prompt)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["masks"]) == num_masks


def test_logits_go_back_as_they_came(api: httpx.Client, item_id: str, desk: Any) -> None:
    seen = []
    original = desk.models.predict

    def watching(image_id: str, version: str, prompt: Any, **how: Any) -> Any:
        seen.append(prompt.mask_logits)
        return original(image_id, version, prompt, **how)

    desk.models.predict = watching
    first = predict(api, item_id, points=[[30, 30]], labels=[1]).json()["masks"][1]
    logits = first["logits"]
    raw = np.frombuffer(base64.b64decode(logits["float16"]), "<f2").reshape(logits["size"])
    assert set(np.unique(raw)) == {-8.0, 8.0}
    second = predict(api, item_id, points=[[30, 30]], labels=[1], logits=logits)
    assert len(second.json()["masks"]) == 1, "a click on a mask is not ambiguous"
    assert seen[0] is None
    np.testing.assert_array_equal(np.asarray(seen[1]), raw[None].astype(np.float32))


def test_a_closer_look_says_its_window_and_is_gone_on_from(
    api: httpx.Client, item_id: str, desk: Any
) -> None:
    desk.models.closer = (8, 8, 56, 56)
    first = predict(api, item_id, points=[[30, 30]], labels=[1]).json()["masks"][1]
    assert first["window"] == [8, 8, 56, 56]
    assert first["logits"]["size"] == [48, 48]
    assert mask_of(first)[30, 30]
    assert mask_of(first).shape == (96, 128)
    desk.models.closer = None
    again = {"points": [[30, 30], [33, 30]], "labels": [1, 1]}
    kept = {"logits": first["logits"], "window": first["window"]}
    [second] = predict(api, item_id, **again, **kept).json()["masks"]
    assert second["window"] == [8, 8, 56, 56]


def encoded(values: list[float]) -> str:
    return base64.b64encode(np.array(values, "<f2").tobytes()).decode()


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        pytest.param({}, "points", id="nothing"),
        pytest.param({"points": [[1, 1]], "labels": []}, "labels", id="point without label"),
        pytest.param({"points": [[1, 1]], "labels": [2]}, "labels[0]", id="unknown label"),
        pytest.param({"points": [[1, 1, 1]], "labels": [1]}, "points[0]", id="three coordinates"),
        pytest.param({"points": [[128.5, 1]], "labels": [1]}, "points", id="right of the image"),
        pytest.param({"points": [[-1, 1]], "labels": [1]}, "points[0][0]", id="left of the image"),
        pytest.param({"points": [[1, 1]] * 300, "labels": [1] * 300}, "points", id="too many"),
        pytest.param({"box": [5, 5, 5, 9]}, "box", id="box without width"),
        pytest.param({"box": [5, 5, 9, 97]}, "box", id="box below the image"),
        pytest.param(
            {"box": [1, 1, 9, 9], "logits": {"size": [1, 2], "float16": "!!!!"}},
            "logits",
            id="not base64",
        ),
        pytest.param(
            {"box": [1, 1, 9, 9], "logits": {"size": [2, 2], "float16": encoded([1.0])}},
            "logits",
            id="fewer numbers than said",
        ),
        pytest.param(
            {"box": [1, 1, 9, 9], "logits": {"size": [1, 1], "float16": encoded([np.inf])}},
            "logits",
            id="infinite",
        ),
        pytest.param(
            {"box": [1, 1, 9, 9], "logits": {"size": [1, 10**9], "float16": ""}},
            "logits.size[1]",
            id="huge",
        ),
        pytest.param({"box": [1, 1, 9, 9], "window": [0, 0, 9, 9]}, "window", id="no logits"),
        pytest.param({"box": [1, 1, 9, 9], "window": [0, 0, 9]}, "window[3]", id="three numbers"),
    ],
)
def test_a_prompt_that_makes_no_sense_names_the_field(
    api: httpx.Client, item_id: str, prompt: dict[str, Any], field: str
) -> None:
    answer = predict(api, item_id, **prompt)
    assert answer.status_code == 422, answer.text
    message = answer.json()["message"]
    assert message.startswith((f"{field}:", "body:")), message
    assert field.partition("[")[0] in message


def test_what_the_model_cannot_take_is_the_callers_mistake(
    api: httpx.Client, item_id: str, desk: Any
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("mask_logits: must be (1, 64, 64), got (1, 1, 1)")

    desk.models.predict = refuse
    logits = {"size": [1, 1], "float16": encoded([1.0])}
    answer = predict(api, item_id, points=[[1, 1]], labels=[1], logits=logits)
    assert answer.status_code == 422
    assert answer.json()["message"] == "mask_logits: must be (1, 64, 64), got (1, 1, 1)"


def test_a_promotion_meanwhile_does_not_change_the_model_of_an_item(
    api: httpx.Client, item_id: str, desk: Any
) -> None:
    desk.queue.enqueue([desk.new_item(desk.pictures[0], model_version="v2", priority=9.0)])
    answer = predict(api, item_id, points=[[30, 30]], labels=[1]).json()
    assert answer["model_version"] == "v1"
    assert desk.models.asked == [("v1", True)]


def test_slow_clicks_do_not_hold_up_the_queue(desk: Any) -> None:
    blocked, go_on = threading.Semaphore(0), threading.Event()
    original = desk.models.predict

    def slow(*arguments: Any, **how: Any) -> Any:
        blocked.release()
        assert go_on.wait(10)
        return original(*arguments, **how)

    desk.models.predict = slow
    with desk.open(clicks_at_once=2) as api:
        lease = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]
        item_id = lease["item"]["item_id"]
        clicks = [
            threading.Thread(target=predict, args=(api, item_id), kwargs={"box": [1, 1, 9, 9]})
            for _ in range(50)
        ]
        for click in clicks:
            click.start()
        assert blocked.acquire(timeout=5)
        assert blocked.acquire(timeout=5)
        held = {"annotator": "ada", "lease_token": lease["lease_token"]}
        assert api.post(f"/api/items/{item_id}/heartbeat", json=held).status_code == 200
        assert not blocked.acquire(timeout=0.1), "two at a time was the limit"
        go_on.set()
        for click in clicks:
            click.join(10)
