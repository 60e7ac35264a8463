"""The charts: honest axes, every point drawn where its value is, labels that do not collide."""

import re
from xml.etree import ElementTree

import pytest

from flows.report.charts import HEIGHT, WIDTH, Line, Point, line_chart, ticks
from flows.report.data import Model
from flows.report.lineage import family_tree


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        pytest.param(0.48, 0.64, [0.45, 0.5, 0.55, 0.6, 0.65], id="fractions"),
        pytest.param(6.3, 8.7, [6, 7, 8, 9], id="clicks"),
        pytest.param(0, 1, [0, 0.25, 0.5, 0.75, 1], id="unit"),
        pytest.param(120, 980, [0, 250, 500, 750, 1000], id="hundreds"),
    ],
)
def test_ticks_are_round_and_enclose_the_data(
    low: float, high: float, expected: list[float]
) -> None:
    assert ticks(low, high) == expected


@pytest.mark.parametrize("value", [0.0, 0.5, 10.0])
def test_one_value_still_has_an_axis(value: float) -> None:
    marks = ticks(value, value)
    assert marks[0] <= value <= marks[-1]


def line(kind: str, *values: float) -> Line:
    points = [Point(x=index, y=value, name=f"v{index}") for index, value in enumerate(values)]
    return Line(kind=kind, name=kind, points=points)


def circles(svg: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    return [(float(node.attrib["cx"]), float(node.attrib["cy"])) for node in root.iter("circle")]


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    places = circles(line_chart("IoU", [line("loop", 0.2, 0.4, 0.3)], ["start", "1", "2"]))
    xs, ys = zip(*places, strict=True)
    assert list(xs) == sorted(xs)
    assert ys[1] < ys[2] < ys[0]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


def test_equal_ends_have_labels_apart() -> None:
    svg = line_chart("IoU", [line("loop", 0.2, 0.5), line("control", 0.2, 0.5)], ["1", "2"])
    heights = [float(y) for y in re.findall(r'class="end \w+" x="[\d.]+" y="([\d.]+)"', svg)]
    assert len(heights) == 2
    assert abs(heights[0] - heights[1]) >= 12


def test_a_chart_says_its_values_to_a_screen_reader() -> None:
    svg = line_chart("IoU", [line("loop", 0.25)], ["1"])
    assert 'aria-label="IoU: loop v0 0.250"' in svg


def test_names_are_escaped() -> None:
    hostile = "<script>alert(1)</script>"
    point = Point(x=0, y=0.5, name=hostile)
    svg = line_chart(hostile, [Line(kind="loop", name=hostile, points=[point])], [hostile])
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def test_without_a_point_there_is_no_chart() -> None:
    assert line_chart("IoU", [line("loop")], ["start"]) == ""


def version(name: str, parent: str | None, status: str, role: str = "candidate") -> Model:
    return Model(
        version=name,
        parent=parent,
        role=role,
        status=status,
        reason="a <reason>",
        training_snapshot=1,
        num_training_images=5,
        num_training_masks=50,
        generation_depth=0,
        scores={},
    )


def test_the_family_tree_has_a_node_a_version_and_a_branch_a_child() -> None:
    models = [
        version("v0", None, "retired", "base"),
        version("v1", "v0", "promoted"),
        version("v2", "v1", "rejected"),
        version("v3", "v1", "rejected", "control"),
        version("v4", "lost", "candidate"),
    ]
    root = ElementTree.fromstring(family_tree(models))
    nodes = {node.find("text").text: node for node in root.iter("g")}
    height = {name: float(node.find("circle").attrib["cy"]) for name, node in nodes.items()}
    assert list(nodes) == ["v0", "v1", "v2", "v3", "v4"]
    assert len(list(root.iter("path"))) == 3
    assert height["v0"] == height["v1"] < height["v2"] == height["v4"] < height["v3"]
    assert "rejected" in nodes["v2"].attrib["class"]


def test_without_a_version_there_is_no_tree() -> None:
    assert family_tree([]) == ""
