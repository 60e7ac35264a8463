"""Masks of files without a workspace: each format, again, after a stop, and what goes wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from engine import coco, images, rle
from engine.generation.generator import MaskGenerator
from engine.model import weights
from engine.model.registry import ModelConfig, build_model

FEW = ("--points-per-side", "6", "--pred-iou-thresh", "0.3", "--stability-score-thresh", "0.3")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The images that a generator has seen."""
    seen: list[tuple[int, ...]] = []
    generate = MaskGenerator.generate

    def noted(self: MaskGenerator, pixels: Any) -> Any:
        seen.append(pixels.shape)
        return generate(self, pixels)

    monkeypatch.setattr(MaskGenerator, "generate", noted)
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_coco_file(cli: Callable[..., Any], some: Path, tmp_path: Path, made: list[Any]) -> None:
    out = tmp_path / "masks.json"
    said = cli("generate", some, "--out", out, *FEW, "--json")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert result["format"] == "coco"
    assert (result["num_images"], result["num_known"], result["problems"]) == (4, 0, [])
    assert len(made) == 4
    document = json.loads(out.read_text())
    assert result["num_masks"] == len(document["annotations"]) > 4
    read = COCO(str(out))
    names = {image["file_name"] for image in read.dataset["images"]}
    assert names == {"below/first.png", "scene-02.png", "scene-03.png", "scene-04.png"}
    for annotation in read.dataset["annotations"]:
        mask = coco_mask.decode(annotation["segmentation"])
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == list(coco_mask.toBbox(annotation["segmentation"]))
        assert 0.3 <= annotation["predicted_iou"] <= 1
        assert len(annotation["crop_box"]) == 4
    assert len(coco.read(out).masks) == result["num_masks"]
    assert list(tmp_path.glob("masks*")) == [out]


@pytest.mark.parametrize("kind", ["coco", "parquet"])
@pytest.mark.parametrize("redo", [(), ("--redo",)])
def test_a_file_that_is_something_else_stays(
    cli: Callable[..., Any], some: Path, tmp_path: Path, kind: str, redo: tuple[str, ...]
) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text('{"images": [], "annotations": [], "categories": []}')
    picture = some / "scene-02.png"
    by_text = tmp_path / "by_text.json"
    by_text.write_text('{"info": {"made_by": {"text": "a star"}}}')
    for out in (labels, picture, by_text):
        before = out.read_bytes()
        said = cli("generate", picture, "--out", out, "--format", kind, *redo, *FEW)
        assert said.code == 2
        assert said.errors[-1] == (
            f"error: --out: {out} is there already, and not made by this command; name another "
            "file, or remove it"
        )
        assert out.read_bytes() == before
    said = cli("generate", picture, "--out", "/dev/full", "--format", kind, *FEW)
    assert said.errors[-1] == "error: --out: must be a file, but /dev/full is none; name another"


def test_sa1bs_files(cli: Callable[..., Any], some: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    assert cli("generate", some, "--out", out, *FEW).code == 0
    document = json.loads((out / "below" / "first.png.json").read_text())
    pixels = images.decode((some / "below" / "first.png").read_bytes()).pixels
    assert document["image"]["file_name"] == "below/first.png"
    assert (document["image"]["height"], document["image"]["width"]) == pixels.shape[:2]
    for annotation in document["annotations"]:
        size, counts = annotation["segmentation"]["size"], annotation["segmentation"]["counts"]
        mask = rle.decode(rle.Rle(tuple(size), counts))
        x, y, width, height = annotation["bbox"]
        assert annotation["area"] == mask.sum()
        assert mask[int(y) : int(y + height), int(x) : int(x + width)].sum() == mask.sum()
        assert len(annotation["point_coords"][0]) == 2


def test_a_parquet_file(cli: Callable[..., Any], some: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "masks.parquet", tmp_path / "masks.json"
    assert cli("generate", some, "--out", out, *FEW).code == 0
    assert cli("generate", some, "--out", other, *FEW).code == 0
    rows = pq.read_table(out).to_pylist()
    annotations = json.loads(other.read_text())["annotations"]
    assert [row["segmentation"] for row in rows] == [a["segmentation"] for a in annotations]
    assert [row["bbox"] for row in rows] == [a["bbox"] for a in annotations]
    assert {row["file_name"] for row in rows} <= {
        "below/first.png",
        *(p.name for p in some.iterdir()),
    }


@pytest.mark.parametrize("name", ["masks", "masks.json", "masks.parquet"])
def test_again_changes_nothing_and_a_new_image_costs_itself(
    cli: Callable[..., Any], some: Path, tmp_path: Path, made: list[Any], name: str
) -> None:
    out = tmp_path / name
    assert cli("generate", some, "--out", out, *FEW).code == 0
    before = contents(tmp_path)
    made.clear()
    assert cli("generate", some, "--out", out, *FEW).code == 0
    assert (made, contents(tmp_path)) == ([], before)
    shutil.copy(some / "scene-02.png", some / "new.png")
    (some / "scene-03.png").write_bytes((some / "scene-04.png").read_bytes())
    assert cli("generate", some, "--out", out, *FEW).code == 0
    assert len(made) == 2, "the new one and the one that changed"
    made.clear()
    assert cli("generate", some, "--out", out, *FEW, "--redo").code == 0
    assert len(made) == 5
    made.clear()
    assert cli("generate", some, "--out", out, *FEW, "--box-nms-thresh", "0.9").code == 0
    assert len(made) == 5, "another config makes other masks"


@pytest.mark.parametrize("name", ["masks.json", "masks.parquet"])
def test_masks_of_other_images_stay(
    cli: Callable[..., Any], some: Path, tmp_path: Path, made: list[Any], name: str
) -> None:
    out, whole = tmp_path / name, tmp_path / f"whole-{name}"
    second, third = some / "scene-02.png", some / "scene-03.png"
    assert cli("generate", second, "--out", out, *FEW).code == 0
    said = cli("generate", third, "--out", out, *FEW)
    assert "; masks of other images stay there: 1" in said.out
    assert cli("generate", third, "--out", out, *FEW, "--redo").code == 0
    assert cli("generate", third, second, "--out", whole, *FEW).code == 0
    assert out.read_bytes() == whole.read_bytes()
    made.clear()
    said = cli("generate", third, "--out", out, *FEW, "--box-nms-thresh", "0.9")
    assert (said.code, made) == (2, [])
    assert "has masks of 1 other images, such as 'scene-02.png', made by other" in said.err
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", ["masks", "masks.json", "masks.parquet"])
def test_a_run_that_was_stopped_goes_on(
    cli: Callable[..., Any],
    some: Path,
    tmp_path: Path,
    made: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    out = tmp_path / name
    generate = MaskGenerator.generate

    def interrupted(self: MaskGenerator, pixels: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        return generate(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr("engine.threads.os.sched_getaffinity", lambda _: {0})
        patch.setattr(MaskGenerator, "generate", interrupted)
        said = cli("generate", some, "--out", out, *FEW)
    assert said.code == 130
    assert "the same command goes on" in said.err
    assert not out.is_file()
    made.clear()
    assert cli("generate", some, "--out", out, *FEW).code == 0
    assert 0 < len(made) <= 2
    whole = contents(tmp_path) if name == "masks" else {name: out.read_bytes()}
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    assert cli("generate", some, "--out", out, *FEW).code == 0
    assert whole.items() <= contents(tmp_path).items()


def test_a_bad_image_costs_only_itself(cli: Callable[..., Any], some: Path, tmp_path: Path) -> None:
    (some / "bad.png").write_bytes(b"not a picture")
    out = tmp_path / "masks.json"
    said = cli("generate", some, "--out", out, *FEW)
    assert said.code == 0
    assert [line for line in said.errors if "bad.png" in line]
    assert len(json.loads(out.read_text())["images"]) == 4
    said = cli("generate", some, "--out", tmp_path / "strict.json", *FEW, "--strict")
    assert said.code == 1
    assert "bad.png" in said.err
    assert not (tmp_path / "strict.json").exists()
    said = cli("generate", some / "bad.png", "--out", tmp_path / "none.json")
    assert said.code == 1
    assert "no image could be labelled" in said.err


def test_an_image_that_cannot_be_read_any_more_goes(
    cli: Callable[..., Any], some: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks.json"
    assert cli("generate", some, "--out", out, *FEW).code == 0
    (some / "scene-03.png").write_bytes(b"gone")
    assert cli("generate", some, "--out", out, *FEW).code == 0
    names = [image["file_name"] for image in json.loads(out.read_text())["images"]]
    assert names == ["below/first.png", "scene-02.png", "scene-04.png"]


def test_names_hang_on_no_other_image(
    cli: Callable[..., Any], some: Path, tmp_path: Path, made: list[Any]
) -> None:
    out = tmp_path / "masks"
    (tmp_path / "one").mkdir()
    deep = tmp_path / "one" / "2024"
    deep.mkdir()
    (deep / "x.png").symlink_to(some / "scene-02.png")
    assert cli("generate", tmp_path / "one", "--out", out, *FEW).code == 0
    (tmp_path / "one" / "y.png").symlink_to(some / "scene-03.png")
    made.clear()
    assert cli("generate", tmp_path / "one", "--out", out, *FEW).code == 0
    assert len(made) == 1
    assert sorted(contents(out)) == ["2024/x.png.json", "y.png.json"]
    said = cli(
        "generate", deep, deep / "x.png", some / "scene-02.png", "--out", tmp_path / "m.json"
    )
    assert said.code == 0
    shutil.copy(some / "scene-04.png", tmp_path / "x.png")
    said = cli("generate", deep, tmp_path / "x.png", "--out", tmp_path / "m.json")
    assert said.code == 2
    assert "would both be x.png; name the folder above both" in said.err


def test_an_own_checkpoint(cli: Callable[..., Any], some: Path, tmp_path: Path) -> None:
    config = ModelConfig(architecture="nano_tiny")
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(weights.to_bytes(build_model(config, seed=1), config))
    options = ("--points-per-side", "3", "--pred-iou-thresh", "0", "--stability-score-thresh", "0")
    out = tmp_path / "masks.json"
    said = cli(
        "generate", some, "--out", out, "--checkpoint", path, "--recipe", "reference", *options
    )
    assert said.code == 0, said.err
    first = json.loads(out.read_text())
    path.write_bytes(weights.to_bytes(build_model(config, seed=2), config))
    assert cli("generate", some, "--out", out, "--checkpoint", path, *options).code == 0
    assert json.loads(out.read_text())["info"]["made_by"] != first["info"]["made_by"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "--out: say where"),
        (("--out", "masks.txt"), "--out: must be a folder, or end in .json or .parquet"),
        (("--out", "masks", "--format", "yolo"), "--format: must be one of parquet, coco, sa1b"),
        (("--out", "folder", "--format", "coco"), "--out: coco writes a file"),
        (("--out", "file", "--format", "sa1b"), "--out: sa1b writes a folder"),
        (("--out", "m.json", "--points-per-side", "0"), "--points-per-side: must be"),
        (("--out", "m.json", "--checkpoint", "x.pth"), "--arch: say what x.pth is"),
        (("--out", "m.json", "--checkpoint", "x.pth", "--arch", "vit_b"), "x.pth: no such file"),
        (("--out", "m.json", "--arch", "vit_x"), "--arch: must be one of"),
        (("--out", "m.json", "--checkpoint", "x.pth", "--arch", "nano"), "--arch: say what x.pth"),
        (("--out", "m.json", "--sha256", "00"), "--sha256: is of a --checkpoint"),
        (("--out", "m.json", "--recipe", "best"), "recipe 'best': unknown"),
        (("--out", "m.json", "--device", "cuda:99"), "--device: must be a device that is there"),
    ],
)
def test_a_mistake_is_one_line(
    cli: Callable[..., Any],
    some: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    line: str,
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    said = cli("generate", some, *arguments)
    assert said.code == 2
    assert len(said.errors) == 1
    assert line in said.err


def test_options_for_files_are_refused_in_a_workspace(cli: Callable[..., Any]) -> None:
    for option in (("--points-per-side", "8"), ("--out", "x"), ("--device", "cpu"), ("--strict",)):
        said = cli("generate", *option)
        assert said.code == 2
        assert option[0] in said.err


def test_photographs(cli: Callable[..., Any], tmp_path: Path, data_dir: Path) -> None:
    out = tmp_path / "masks.json"
    said = cli("generate", data_dir / "photos", "--out", out, "--points-per-side", "6")
    assert said.code == 0, said.err
    areas = np.array([a["area"] for a in json.loads(out.read_text())["annotations"]])
    assert len(areas) >= 2
    assert areas.max() > 1000


def test_a_name_as_long_as_a_file_system_takes(
    cli: Callable[..., Any], some: Path, tmp_path: Path
) -> None:
    name = "ä" * 124 + ".png"
    (some / "scene-02.png").rename(some / name)
    for out in (tmp_path / "masks", tmp_path / "masks.json"):
        for _ in range(2):
            said = cli("generate", some, "--out", out, *FEW)
            assert said.code == 0, said.err
    [document] = [
        found
        for path in (tmp_path / "masks").glob("*.json")
        if (found := json.loads(path.read_bytes()))["image"]["file_name"] == name
    ]
    assert document["annotations"]
