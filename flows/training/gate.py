"""The gate: a candidate serves only if the gold set says it is not worse than what serves now."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.metrics.bootstrap import ImageMeans, Interval, interval, paired_differences
from flows.recipes import GateConfig

# A few gold images give intervals so wide that any model would pass: noise excuses no more.
MOST_EXCUSED = 0.05


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate decided, in words that name the numbers."""

    passed: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Both models on the same gold images, image id -> what was measured there.

    Raises ValueError when the images, or the masks that were clicked on, are not the same.
    """

    candidate: Mapping[str, ImageMeans]
    current: Mapping[str, ImageMeans]

    def __post_init__(self) -> None:
        new, old = (
            {name: image.num_masks for name, image in images.items()}
            for images in (self.candidate, self.current)
        )
        if new != old:
            raise ValueError(
                "paired: both models must be measured on the same masks, but got "
                f"{sum(new.values())} on {len(new)} images and {sum(old.values())} on {len(old)}"
            )


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One number of both models; the interval is of the difference."""

    name: str
    new: float
    old: float
    noise: Interval | None

    @property
    def difference(self) -> float:
        return self.new - self.old

    def cells(self) -> tuple[str, ...]:
        between = f"{self.noise.low:+.4f} to {self.noise.high:+.4f}" if self.noise else "unknown"
        return self.name, f"{self.new:.4f}", f"{self.old:.4f}", f"{self.difference:+.4f}", between


def judge(
    candidate: Mapping[str, float],
    current: Mapping[str, float],
    config: GateConfig,
    *,
    paired: Paired | None = None,
) -> Verdict:
    """Compare the mean of `config.metrics` on the gold set, both models scored the same way.

    The candidate passes within `config.margin` of the current model, and below that when the
    difference lies within the noise: when the 95% interval of the paired bootstrap over images
    (`paired`; without it there is no noise to speak of) reaches up to 0. More than MOST_EXCUSED is
    never noise. A rejection's reason has a table of the numbers.

    Both mappings empty means that there is no gold set: the candidate passes, and says so. A number
    that is not finite never passes, whatever it is compared with.
    """
    if not candidate:
        return Verdict(passed=True, reason="unmeasured: the workspace has no gold image with masks")
    for name in config.metrics:
        if not math.isfinite(candidate[name]):
            return Verdict(passed=False, reason=f"{name} is {candidate[name]}, not a finite number")
    old = _mean(current, config)
    if not math.isfinite(old):
        # Else a broken model, once in service, could never be replaced.
        return Verdict(passed=True, reason=f"the model in service has a mean of {old}")
    lines = _lines(candidate, current, config, paired)
    mean = lines[-1]
    said = f"mean of {', '.join(config.metrics)}: {mean.new:.4f}"
    if mean.new >= mean.old - config.margin:
        return Verdict(passed=True, reason=f"{said} reaches {mean.old:.4f} - {config.margin}")
    if mean.noise and mean.noise.high >= 0 and mean.difference >= -MOST_EXCUSED:
        return Verdict(passed=True, reason=f"{said} is below {mean.old:.4f} by no more than noise")
    reason = f"{said} falls short of {mean.old:.4f} - {config.margin}"
    return Verdict(passed=False, reason=f"{reason}\n{_table(lines)}")


def _lines(
    candidate: Mapping[str, float],
    current: Mapping[str, float],
    config: GateConfig,
    paired: Paired | None,
) -> list[_Line]:
    """One for each metric, the last for their mean."""
    noise = _noise(paired, config.metrics)
    rows = [(name, candidate[name], current[name]) for name in config.metrics]
    rows.append(("mean", _mean(candidate, config), _mean(current, config)))
    return [
        _Line(name=name, new=new, old=old, noise=between)
        for (name, new, old), between in zip(rows, noise, strict=True)
    ]


def _noise(paired: Paired | None, metrics: Sequence[str]) -> list[Interval | None]:
    """Of the difference in each metric, and in their mean."""
    names = [name for name, image in paired.candidate.items() if image.num_masks] if paired else []
    if paired is None or not names:
        return [None] * (len(metrics) + 1)
    differences = paired_differences(
        [paired.candidate[name] for name in names],
        [paired.current[name] for name in names],
        metrics,
    )
    return [*map(interval, differences.T), interval(differences.mean(axis=1))]


def _table(lines: Sequence[_Line]) -> str:
    rows = [
        ("metric", "candidate", "current", "difference", "95% of resamples"),
        *(line.cells() for line in lines),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _mean(scores: Mapping[str, float], config: GateConfig) -> float:
    return sum(scores[name] for name in config.metrics) / len(config.metrics)
