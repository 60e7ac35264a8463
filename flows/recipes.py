"""Named full configurations: a run is a function, a variant is a `dataclasses.replace`."""

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.generation.config import GenerationConfig
from engine.metrics.config import EvaluationConfig
from engine.identity import config_hash
from engine.model.registry import ModelConfig, build_model
from engine.model.weights import read_config, shipped, to_bytes
from engine.proposals import ProposalConfig
from engine.training.config import TrainingConfig
from flows.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AssistConfig:
    """Stage 2: how many images a turn, out of how many looked at."""

    num_images: int = 24
    pool: int = 72
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.num_images <= self.pool:
            raise ValueError(
                f"num_images: must be from 1 to pool ({self.pool}), but got {self.num_images}"
            )


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """A candidate is promoted unless it is worse than the model in service by over `margin`."""

    metrics: tuple[str, ...] = ("iou_1_click", "iou_3_clicks", "iou_5_clicks")
    margin: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin: must be in [0, 1), but got {self.margin}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that says *what* a loop does; `maskloop.toml` says *where*."""

    name: str
    start: str = "nano"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    evaluation_generation: GenerationConfig = field(default_factory=GenerationConfig)
    assist: AssistConfig = field(default_factory=AssistConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    shard_size: int = 8
    clicks_per_image: int = 60

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError(f"shard_size: must be at least 1, but got {self.shard_size}")
        if self.clicks_per_image < 1:
            raise ValueError(f"clicks_per_image: must be at least 1, but got {self.clicks_per_image}")

    def generation_key(self) -> str:
        """The config hash that names the sets this recipe generates."""
        return config_hash(self.generation)

    def start_weights(self) -> tuple[bytes, ModelConfig]:
        """The weights a workspace begins with, and their architecture."""
        if self.start == "nano":
            data = shipped().read_bytes()
            return data, read_config(data)
        config = ModelConfig(architecture=self.start)
        return to_bytes(build_model(config, seed=0), config), config
