"""Who labels shards: Ray's pools, or this process."""

from collections.abc import Callable, Iterator, Sequence

from flows.errors import StageError
from flows.generation.ray_pools import label_on_ray
from flows.generation.shard_work import (
    LabellerSpec,
    Result,
    ShardFailure,
    ShardLabeller,
    ShardOrder,
)
from flows.models import serving
from flows.recipes import Recipe
from flows.workspace import Workspace

MAX_ATTEMPTS = 3


def executor(
    workspace: Workspace, recipe: Recipe, version: str, orders: Sequence[ShardOrder]
) -> Iterator[Result]:
    """One result per order, in the order in which they finish."""
    workers = workspace.settings.workers
    if workers.kind == "local":
        spec = _spec(workspace, recipe, version, str(serving.device(workspace)))
        return label_here(lambda: ShardLabeller(spec), orders)
    # Each actor sees the GPU that Ray gives it and no other, whatever its number here.
    device = workspace.settings.model.device.partition(":")[0]
    spec = _spec(workspace, recipe, version, device)
    return label_on_ray(spec, orders, workers, max_attempts=MAX_ATTEMPTS)


def _spec(workspace: Workspace, recipe: Recipe, version: str, device: str) -> LabellerSpec:
    row = serving.model_row(workspace, version)
    return LabellerSpec(
        objects=workspace.objects,
        weights_uri=row.weights_uri,
        weights_sha256=row.weights_sha256,
        model_version=version,
        generation=recipe.generation,
        keep_candidates=recipe.keep_candidates,
        config_hash=recipe.generation_key(),
        generation_depth=row.generation_depth,
        reader=workspace.reader,
        device=device,
    )


def label_here(
    make_labeller: Callable[[], ShardLabeller], orders: Sequence[ShardOrder]
) -> Iterator[Result]:
    """Label in this process; a shard that raises MAX_ATTEMPTS times is given up with its reason."""
    labeller = make_labeller()
    for order in orders:
        yield _with_retries(labeller, order)


def _with_retries(labeller: ShardLabeller, order: ShardOrder) -> Result:
    reason = ""
    for _ in range(MAX_ATTEMPTS):
        try:
            return labeller.label(order)
        except (StageError, ValueError, RuntimeError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
    return ShardFailure(shard_key=order.shard_key, reason=reason)
