"""The learning rate at each step."""

import math
from typing import Protocol

from engine.training.config import TrainingConfig


class CosinePlan(Protocol):
    """What a training's config says of a learning rate that goes down by a cosine."""

    @property
    def steps(self) -> int:
        """Of the whole training."""

    @property
    def warmup_steps(self) -> int:
        """Until the peak."""

    @property
    def learning_rate(self) -> float:
        """The peak."""

    @property
    def final_fraction(self) -> float:
        """What is left of the peak at the end."""


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up to the peak, then down by `config.schedule`."""
    if step < config.warmup_steps:
        return _warming(step, config)
    if config.schedule == "steps":
        return _stepped(step, config)
    return _cosine(step, config)


def warmed_cosine(step: int, plan: CosinePlan) -> float:
    """Linear warm-up to the peak, then half a cosine down to `final_fraction` of it."""
    return _warming(step, plan) if step < plan.warmup_steps else _cosine(step, plan)


def _warming(step: int, plan: CosinePlan) -> float:
    return plan.learning_rate * (step + 1) / plan.warmup_steps


def _cosine(step: int, plan: CosinePlan) -> float:
    span = max(1, plan.steps - plan.warmup_steps)
    progress = min(1.0, (step - plan.warmup_steps) / span)
    floor = plan.final_fraction
    return plan.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def _stepped(step: int, config: TrainingConfig) -> float:
    """The peak times `step_factor` for each milestone passed."""
    passed = sum(step >= round(place * config.steps) for place in config.milestones)
    return config.learning_rate * config.step_factor**passed
