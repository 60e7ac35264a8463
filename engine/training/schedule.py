"""The learning rate at each step."""

import math

from engine.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up to the peak, then down by `config.schedule`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "steps":
        return _stepped(step, config)
    return _cosine(step, config)


def _cosine(step: int, config: TrainingConfig) -> float:
    """Half a cosine down to `final_fraction` of the peak."""
    span = max(1, config.steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / span)
    floor = config.final_fraction
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def _stepped(step: int, config: TrainingConfig) -> float:
    """The peak times `step_factor` for each milestone passed."""
    passed = sum(step >= round(place * config.steps) for place in config.milestones)
    return config.learning_rate * config.step_factor**passed
