"""The gate: a candidate serves only if the gold set says it is not worse than what serves now."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flows.recipes import GateConfig


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate decided, in words that name the numbers."""

    passed: bool
    reason: str


def judge(
    candidate: Mapping[str, float], current: Mapping[str, float], config: GateConfig
) -> Verdict:
    """Compare the mean of `config.metrics` on the gold set, both models scored the same way.

    Both mappings empty means that there is no gold set: the candidate passes, and says so. A number
    that is not finite never passes, whatever it is compared with.
    """
    if not candidate:
        return Verdict(passed=True, reason="unmeasured: the workspace has no gold image with masks")
    for name in config.metrics:
        if not math.isfinite(candidate[name]):
            return Verdict(passed=False, reason=f"{name} is {candidate[name]}, not a finite number")
    new, old = (_mean(scores, config) for scores in (candidate, current))
    if not math.isfinite(old):
        # Else a broken model, once in service, could never be replaced.
        return Verdict(passed=True, reason=f"the model in service has a mean of {old}")
    verb = "reaches" if new >= old - config.margin else "falls short of"
    return Verdict(
        passed=new >= old - config.margin,
        reason=f"mean of {', '.join(config.metrics)}: {new:.4f} {verb} {old:.4f} - {config.margin}",
    )


def _mean(scores: Mapping[str, float], config: GateConfig) -> float:
    return sum(scores[name] for name in config.metrics) / len(config.metrics)
