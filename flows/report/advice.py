"""Stop or go on? What people's last work bought on the gold set, and what to do next.

In words and numbers after each training: whether to train again now, to ask people for more, or to
leave the rest to automatic generation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from engine.metrics.bootstrap import ImageMeans, Interval, interval, paired_differences

METRICS = ("iou_1_click", "iou_3_clicks", "iou_5_clicks")
# Of the mean IoU, for a hundred actions. Who gains less will not see it in the masks.
WORTH = 0.002
# Fewer actions say nothing of a hundred.
FEW = 20

Verdict = Literal["train", "ask", "automatic", "worse", "few", "unclear"]

_LAST = """
    SELECT r.model_version AS version, v.parent, r.started_at
    FROM runs r JOIN model_versions v ON v.version = r.model_version
    WHERE r.stage = 'train' AND r.status = 'done' ORDER BY r.started_at DESC LIMIT 2
"""
# A click, a proposal decided on, a mask added: each is an action.
_ACTIONS = """
    SELECT coalesce(sum(r.num_clicks + r.num_accepted + r.num_edited + r.num_rejected
                        + r.num_added), 0)::BIGINT AS actions
    FROM reviews r JOIN runs m USING (run_id)
    WHERE coalesce(r.kind, 'assist') IN ('assist', 'audit', 'dispute')
      AND m.started_at > ? AND m.started_at <= ?
"""
# Measured the same way, on the same gold set: the newest way that both were.
_SCORES = """
    SELECT model_version, split, metric, value, num_masks FROM evaluations
    WHERE model_version IN (?, ?) AND starts_with(split, 'gold:') AND config_hash = (
        SELECT config_hash FROM evaluations WHERE model_version IN (?, ?) AND split = 'gold'
        GROUP BY 1 HAVING count(DISTINCT model_version) = 2 ORDER BY max(created_at) DESC LIMIT 1)
    ORDER BY created_at
"""
_EVER = datetime(1970, 1, 1)
_NEVER = datetime(9999, 1, 1)


class Rows(Protocol):
    """A store that answers SQL."""

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of one SELECT."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What `num_actions` of people bought: the gain in mean IoU on gold, and its 95% interval.

    `num_waiting` actions no training has seen yet. The gain is None where nothing was measured.
    """

    verdict: Verdict
    version: str
    num_actions: int
    num_waiting: int
    gain: float | None
    noise: Interval | None

    @property
    def words(self) -> str:
        """The same in a sentence or two."""
        return f"{self._bought} {_NEXT[self.verdict]}"

    @property
    def _actions(self) -> str:
        return "1 action" if self.num_actions == 1 else f"{self.num_actions} actions"

    @property
    def _bought(self) -> str:
        if self.gain is None or self.noise is None:
            return f"What the last {self._actions} bought is not known: no gold image."
        said = (
            f"{self._actions} of people went into {self.version}, whose mean IoU on the "
            f"gold set changed by {self.gain:+.3f} (95%: {self.noise.low:+.3f} to "
            f"{self.noise.high:+.3f})"
        )
        if self.num_actions < FEW:
            return f"{said}."
        each = 100 / self.num_actions
        return (
            f"{said}: {self.gain * each:+.4f} for each hundred ({self.noise.low * each:+.4f} to "
            f"{self.noise.high * each:+.4f})."
        )


_NEXT: dict[Verdict, str] = {
    "train": "As much work again waits to be learnt: train now (maskloop train).",
    "ask": "People's work still tells: ask for more (maskloop assist).",
    "automatic": "More of it would hardly tell: generate the rest (maskloop generate), and measure "
    "it (maskloop audit).",
    "worse": "It fell by more than luck: before people do more, look at what was learnt (maskloop "
    "lineage) and at the hidden checks.",
    "few": "So few say nothing: ask for more before you decide.",
    "unclear": "That may be luck: ask for more before you decide, or add gold images.",
}


def advice(lake: Rows) -> Advice | None:
    """After the last training; None before the first."""
    found = lake.rows(_LAST)
    if not found:
        return None
    last, since = found[0], found[1]["started_at"] if len(found) > 1 else _EVER
    num_actions = _actions(lake, since, last["started_at"])
    num_waiting = _actions(lake, last["started_at"], _NEVER)
    gain, noise = _gain(lake, last["version"], last["parent"])
    return Advice(
        verdict=_verdict(num_actions, num_waiting, gain, noise),
        version=last["version"],
        num_actions=num_actions,
        num_waiting=num_waiting,
        gain=gain,
        noise=noise,
    )


def _actions(lake: Rows, after: datetime, until: datetime) -> int:
    return int(lake.rows(_ACTIONS, (after, until))[0]["actions"])


def _gain(lake: Rows, new: str, old: str | None) -> tuple[float | None, Interval | None]:
    if old is None:
        return None, None
    rows = lake.rows(_SCORES, (new, old, new, old))
    means: dict[str, dict[str, ImageMeans]] = {new: {}, old: {}}
    for row in rows:
        images = means[row["model_version"]]
        before = images.get(row["split"])
        metrics: Mapping[str, float] = before.metrics if before else {}
        images[row["split"]] = ImageMeans(
            num_masks=row["num_masks"], metrics={**metrics, row["metric"]: row["value"]}
        )
    both = sorted(name for name in means[new].keys() & means[old].keys() if _counts(means, name))
    if not both:
        return None, None
    first, second = ([means[version][name] for name in both] for version in (new, old))
    differences = paired_differences(first, second, METRICS).mean(axis=1)
    return _mean(first) - _mean(second), interval(differences)


def _counts(means: Mapping[str, Mapping[str, ImageMeans]], name: str) -> bool:
    """Whether an image has masks that both were measured on."""
    return all(images[name].num_masks > 0 for images in means.values())


def _mean(images: list[ImageMeans]) -> float:
    total = sum(image.num_masks for image in images)
    each = [sum(i.num_masks * i.metrics[name] for i in images) / total for name in METRICS]
    return sum(each) / len(each)


def _verdict(
    num_actions: int, num_waiting: int, gain: float | None, noise: Interval | None
) -> Verdict:
    if num_waiting >= max(num_actions, FEW):
        return "train"
    if gain is None or noise is None:
        return "unclear"
    if num_actions < FEW:
        return "few"
    if noise.high < 0:
        return "worse"
    if noise.high * 100 / num_actions < WORTH:
        return "automatic"
    return "ask" if noise.low > 0 else "unclear"
