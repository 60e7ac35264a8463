"""The report's opening sentences: what the loop bought, and no more than the numbers say."""

from collections.abc import Sequence

from annotator.signature import is_simulated
from flows.report.data import Model, Story

MEASURE = "iou_1_click"
# Less than this between two means is not called a difference.
TELLING = 0.005


def headline(story: Story) -> str:
    """One sentence: the gold set before and after, or what is missing to say so."""
    if not story.num_images:
        return "An empty store, ready for its first images."
    first, last = first_trained(story), story.in_service
    if first is None or last is None:
        labels = count(story.masks.get("label", 0), "label")
        return f"{count(story.num_images, 'image')} and {labels} wait for a first training."
    if MEASURE not in first.scores or MEASURE not in last.scores:
        return (
            f"{count(story.num_masks, 'mask')} on {count(story.num_covered, 'image')}; nobody "
            "knows yet how good, because no gold image measures them."
        )
    return (
        f"One click on an image the model has never seen gives a mask with a mean IoU of "
        f"{last.scores[MEASURE]:.2f}{_since(first, last)}."
    )


def _since(first: Model, last: Model) -> str:
    if first.version == last.version:
        return ", from the first labels alone"
    before, after = first.scores[MEASURE], last.scores[MEASURE]
    if abs(after - before) < TELLING:
        return ", no more than with the first labels alone"
    verb = "up" if after > before else "down"
    return f", {verb} from {before:.2f} with the first labels alone"


def lead(story: Story) -> list[str]:
    """The sentences after the headline: people's effort, the control, the automatic masks."""
    sentences = [_effort(story), _control(story), _automatic(story)]
    return [sentence for sentence in sentences if sentence]


def _effort(story: Story) -> str:
    efforts = [turn.effort for turn in story.turns if turn.effort]
    if not efforts:
        return ""
    masks, images = sum(e.num_masks for e in efforts), sum(e.num_images for e in efforts)
    clicks = count(sum(e.num_clicks for e in efforts), "click")
    made = f"{who(story.annotators)} made {count(masks, 'mask')} on {count(images, 'image')}"
    seconds = [e.seconds for e in efforts if e.seconds is not None]
    if len(seconds) < len(efforts):
        # A simulated annotator makes its time up; nobody's hours are told by it.
        return f"{made} with {clicks}."
    return f"{made} in {duration(sum(seconds))} and {clicks}."


def who(annotators: Sequence[str]) -> str:
    """`A simulated annotator`, `One person`, `3 people and a simulated annotator`."""
    programs = sum(map(is_simulated, annotators))
    people = len(annotators) - programs
    parts = []
    if people:
        parts.append("one person" if people == 1 else f"{people} people")
    if programs:
        parts.append(
            "a simulated annotator" if programs == 1 else f"{programs} simulated annotators"
        )
    said = " and ".join(parts) or "nobody"
    return said[0].upper() + said[1:]


def closing(story: Story) -> str:
    """What a closing turn is, when there is one."""
    numbers = [str(turn.number) for turn in story.turns if turn.closing]
    if not numbers:
        return ""
    which = f"Turn {numbers[0]} closes its loop"
    if len(numbers) > 1:
        which = f"Turns {', '.join(numbers[:-1])} and {numbers[-1]} each close a loop"
    return (
        f"{which}: the model learns from the last turn's masks as well, then labels every image by "
        "itself, and nobody is asked any more."
    )


def _control(story: Story) -> str:
    last = story.in_service
    controls = [turn.control for turn in story.turns if turn.control]
    if last is None or not controls or MEASURE not in controls[-1].scores:
        return ""
    if MEASURE not in last.scores:
        return ""
    control, loop = controls[-1].scores[MEASURE], last.scores[MEASURE]
    difference = loop - control
    if abs(difference) < TELLING:
        verdict = "the same: the new masks made no difference"
    elif difference > 0:
        verdict = f"{difference:.2f} less than the loop"
    else:
        verdict = f"{-difference:.2f} more than the loop: the new masks did not help"
    return (
        "A control that started alike and trained as many steps, on the first labels only, "
        f"reaches {control:.2f}, {verdict}."
    )


def _automatic(story: Story) -> str:
    generation = story.generation
    if generation is None or not generation.num_images:
        return ""
    maker = next((m for m in story.models if m.version == generation.model_version), None)
    since = "; it was revoked since" if maker and maker.is_revoked else ""
    return (
        f"From a grid of points, {generation.model_version} then labelled "
        f"{count(generation.num_images, 'image')} by itself with "
        f"{count(generation.num_kept, 'mask')}{since}."
    )


def first_trained(story: Story) -> Model | None:
    """The model of the first turn: what there was before people worked with any model."""
    return next((turn.model for turn in story.turns if turn.model), None)


def count(number: int, noun: str) -> str:
    """`1 mask`, `1,204 masks`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """`48 seconds`, `31 minutes`, `5.2 hours`."""
    if seconds < 90:
        return count(round(seconds), "second")
    if seconds < 90 * 60:
        return count(round(seconds / 60), "minute")
    return f"{seconds / 3600:.1f} hours"
