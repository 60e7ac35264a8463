"""The report: one HTML file that needs nothing else, on screen, in print and without JavaScript."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flows.report import questions, words
from flows.report.charts import Line, Point, line_chart
from flows.report.courses import PARTS, course_chart
from flows.report.data import STAGES, Model, Story, read_story
from flows.report.gallery import Decode, ReadImage, ReadProposals, Sources, gallery, pairs
from flows.report.lineage import family_tree
from flows.report.pictures import ACTION_COLOURS, STAGE_COLOURS
from flows.report.reading import Reading, Store
from flows.report.reasons import parted
from storage.durable import write_durably


@dataclass(frozen=True)
class Metric:
    """One score of the gold set as the page names it."""

    key: str
    name: str
    meaning: str
    fewer_is_better: bool = False


METRICS = (
    Metric("iou_1_click", "IoU, 1 click", "mean overlap with the true mask after one click"),
    Metric("iou_3_clicks", "IoU, 3 clicks", "the same after two corrections"),
    Metric("iou_5_clicks", "IoU, 5 clicks", "the same after four corrections"),
    Metric("noc85", "NoC@85", "clicks until the overlap is 0.85, at most 10", True),
    Metric("ar1000", "AR", "average recall of the automatic masks, 1,000 an image"),
    Metric("ap50", "AP50", "average precision of the automatic masks at IoU 0.5"),
    Metric("f1_50", "F1", "of the automatic masks, matched one to one at IoU 0.5"),
)


LOSS = Metric("loss", "Loss", "of each step on its own images; lower is better")
OWN_IOU = Metric("iou", "IoU", "on those images after their last click")


@dataclass(frozen=True)
class Chart:
    """A metric with its curves."""

    metric: Metric
    svg: Markup


def build_report(
    lake: Store,
    images: ReadImage,
    decode: Decode,
    *,
    out: Path,
    proposals: ReadProposals = lambda _: (),
) -> Path:
    """Write the report of the newest snapshot to `out`; returns `out`.

    `images` gives (H, W, 3) uint8 for an image id and may raise OSError, ValueError or StageError:
    that picture is then left out. `decode` gives the (H, W) bool mask of a segmentation, a mapping
    with `size` and `counts`. `proposals` gives what a review item offered, by item id.
    """
    reading = Reading(lake, lake.snapshot())
    html = render(reading, Sources(image=images, decode=decode, proposals=proposals))
    # A file name can hold bytes that are no text; the page shows them as question marks.
    write_durably(out, html.encode("utf-8", errors="replace"))
    return out


def render(reading: Reading, sources: Sources) -> str:
    """The page as text."""
    story = read_story(reading)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "decimal": _decimal,
        "percent": _percent,
        "share": _share,
        "parted": parted,
    }
    return environment.get_template("template.html.j2").render(
        story=story,
        headline=words.headline(story),
        lead=words.lead(story),
        words=words,
        metrics=METRICS,
        charts=_charts(story),
        curves=_curves(story),
        parts=PARTS,
        has_control=any(turn.control for turn in story.turns),
        timed=any(turn.effort and turn.effort.seconds for turn in story.turns),
        qualities=[turn for turn in story.turns if turn.quality],
        annotator="simulated annotator" if story.simulated else "person",
        tree=family_tree(story.models),
        gallery=gallery(reading, sources),
        pairs=pairs(reading, sources),
        answers=questions.ask_all(reading) if story.num_masks else [],
        stages=STAGES,
        colours={**STAGE_COLOURS, **ACTION_COLOURS},
    )


def _curves(story: Story) -> list[Chart]:
    """Loss and IoU over the course of the trainings, if there were any."""
    charts = [
        Chart(LOSS, course_chart(LOSS.name, story.courses, lambda course: course.losses)),
        Chart(OWN_IOU, course_chart(OWN_IOU.name, story.courses, lambda course: course.ious)),
    ]
    return [chart for chart in charts if chart.svg]


def _charts(story: Story) -> list[Chart]:
    """A chart for each metric that any turn has; turn 0 is the start weights."""
    labels = ["start", *(str(turn.number) for turn in story.turns)]
    charts = [
        Chart(metric, line_chart(metric.name, _lines(story, metric.key), labels))
        for metric in METRICS
    ]
    return [chart for chart in charts if chart.svg]


def _lines(story: Story, metric: str) -> list[Line]:
    base = [(0, story.base)] if story.base else []
    loop = [*base, *((turn.number, turn.model) for turn in story.turns if turn.model)]
    control = [(turn.number, turn.control) for turn in story.turns if turn.control]
    # The control's curve begins where the two part: at the model that it started from.
    if control:
        control = [place for place in loop if place[1].version == control[0][1].parent] + control
    return [
        Line(kind=kind, name=kind, points=_points(places, metric))
        for kind, places in (("control", control), ("loop", loop))
    ]


def _points(places: Sequence[tuple[int, Model]], metric: str) -> list[Point]:
    return [
        Point(
            x=number,
            y=model.scores[metric],
            name=model.version,
            hollow=model.status in ("rejected", "candidate") and model.role != "control",
        )
        for number, model in places
        if metric in model.scores
    ]


def _decimal(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}" if whole else "0"


def _share(part: int, whole: int) -> str:
    """In per cent; few of many are not none."""
    percent = _percent(part, whole)
    return "<1%" if part and percent == "0" else f"{percent}%"
