"""What a CLIP's training says of itself: its marks in a line, and what its card says."""

from pathlib import Path

from engine.clip.card import read_card
from engine.clip.exam import Marks
from engine.clip.weights import shipped
from engine.model.card_fields import Score, TrainingData
from engine.model.integrity import WeightsError
from flows.clip.pictures import Gathered, PairSource
from flows.settings import ClipSettings


def told(what: str, marks: Marks) -> str:
    """Marks in a line."""
    parts = [] if marks.accuracy is None else [f"{marks.accuracy:.1%} named rightly"]
    for way, shares in _ways(marks):
        listed = " / ".join(f"{share:.1%}" for share in shares.values())
        parts.append(f"R@{'/'.join(map(str, shares))} of {way} {listed}")
    return f"{what}: {'; '.join(parts)}"


def scores(source: PairSource, gathered: Gathered, marks: Marks | None) -> tuple[Score, ...]:
    """Marks for a card; none without an exam."""
    if marks is None:
        return ()
    data = f"{len(gathered.asked)} held-out pictures of {source.name}"
    found = []
    if marks.accuracy is not None:
        found.append(Score(data=data, metric="zero-shot accuracy", value=marks.accuracy))
    for way, shares in _ways(marks):
        found += [Score(data=data, metric=f"R@{k}, {way}", value=own) for k, own in shares.items()]
    return tuple(found)


def learnt(source: PairSource, gathered: Gathered) -> TrainingData:
    """What it was trained on, for a card."""
    return TrainingData(
        name=source.name,
        license="that of its images and texts, which maskloop does not know",
        num_images=gathered.num_images,
        description=f"{len(gathered.pairs)} pairs of pictures and texts",
    )


def learnt_before(start: ClipSettings, *, fresh: bool) -> tuple[TrainingData, ...]:
    """What the start was trained on, where its card says so; nothing for random weights."""
    if fresh:
        return ()
    named = start.weights
    try:
        return read_card(Path(named).expanduser() if named else shipped()).trained_on
    except WeightsError:
        name = f"{start.model} {named}".strip()
        return (TrainingData(name=name, license="see where these weights come from"),)


def _ways(marks: Marks) -> list[tuple[str, dict[int, float]]]:
    if marks.recall is None:
        return []
    return [
        ("texts of images", marks.recall.texts_of_images),
        ("images of texts", marks.recall.images_of_texts),
    ]
