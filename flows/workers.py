"""Who labels shards: Ray actors, or this process. The only module that knows Ray."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows import serving
from flows.errors import StageError
from flows.recipes import Recipe
from flows.shard_work import LabellerSpec, ShardFailure, ShardLabeller, ShardOrder
from flows.workspace import Workspace
from storage.catalog.shards import ShardReceipt

MAX_ATTEMPTS = 3
Result = ShardReceipt | ShardFailure


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
    return label_on_ray(spec, orders, count=workers.count, timeout_s=workers.timeout_s)


def _spec(workspace: Workspace, recipe: Recipe, version: str, device: str) -> LabellerSpec:
    row = serving.model_row(workspace, version)
    return LabellerSpec(
        root=workspace.root,
        weights_path=workspace.objects.path(row.weights_uri),
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


@dataclass
class _Slot:
    """One actor and what it is doing."""

    actor: Any
    order: ShardOrder | None = None
    task: Any = None
    deadline: float = 0.0


@dataclass
class _Pool:
    """Actors with a deadline for each shard.

    Ray restarts a worker that dies but never notices one that hangs, so each shard has its own
    timeout: the actor is killed, another takes its place, and the shard is tried again. A late
    file of the first attempt has another name and is never committed.
    """

    spec: LabellerSpec
    num_actors: int
    resources: Mapping[str, int]
    timeout_s: float
    queue: deque[ShardOrder]
    attempts: dict[str, int] = field(default_factory=dict)
    slots: list[_Slot] = field(default_factory=list)

    def run(self, ray: Any) -> Iterator[Result]:
        options = {**self.resources, "max_restarts": 0, "max_task_retries": 0}
        actor_class = ray.remote(**options)(ShardLabeller)
        self.slots = [_Slot(actor_class.remote(self.spec)) for _ in range(self.num_actors)]
        while self.queue or any(slot.task is not None for slot in self.slots):
            self._give_out()
            tasks = [slot.task for slot in self.slots if slot.task is not None]
            ready, _ = ray.wait(tasks, num_returns=1, timeout=1.0)
            for slot in self.slots:
                if slot.task is not None and slot.task in ready:
                    yield from self._collect(ray, actor_class, slot)
                elif slot.task is not None and time.monotonic() > slot.deadline:
                    reason = f"no answer within {self.timeout_s:.0f} s"
                    yield from self._replace(ray, actor_class, slot, reason)

    def _give_out(self) -> None:
        for slot in self.slots:
            if slot.task is None and self.queue:
                slot.order = self.queue.popleft()
                slot.task = slot.actor.label.remote(slot.order)
                slot.deadline = time.monotonic() + self.timeout_s

    def _collect(self, ray: Any, actor_class: Any, slot: _Slot) -> Iterator[Result]:
        try:
            receipt = ray.get(slot.task)
        except ray.exceptions.RayActorError as error:
            yield from self._replace(ray, actor_class, slot, f"the worker died: {_line(error)}")
        except ray.exceptions.RayTaskError as error:
            yield from self._retry(slot, _line(error.cause))
        else:
            slot.order = slot.task = None
            yield receipt

    def _replace(self, ray: Any, actor_class: Any, slot: _Slot, reason: str) -> Iterator[Result]:
        ray.kill(slot.actor, no_restart=True)
        slot.actor = actor_class.remote(self.spec)
        yield from self._retry(slot, reason)

    def _retry(self, slot: _Slot, reason: str) -> Iterator[Result]:
        order = slot.order
        assert order is not None, "a slot with a task has an order"
        slot.order = slot.task = None
        self.attempts[order.shard_key] = self.attempts.get(order.shard_key, 0) + 1
        if self.attempts[order.shard_key] < MAX_ATTEMPTS:
            self.queue.append(order)
        else:
            yield ShardFailure(shard_key=order.shard_key, reason=reason)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _actors(ray: Any, spec: LabellerSpec, count: int) -> tuple[int, dict[str, int]]:
    """How many actors the cluster has room for, at most `count` unless 0, and what each needs."""
    there = ray.cluster_resources()
    gpus = 0 if spec.device == "cpu" else int(there.get("GPU", 0))
    if gpus:
        return min(count or gpus, gpus), {"num_cpus": 1, "num_gpus": 1}
    if spec.device == "cuda":
        raise StageError(
            'generate: model.device is "cuda", but Ray sees no GPU; set "auto" or "cpu", or name a '
            "cluster that has one by RAY_ADDRESS"
        )
    return count or int(there["CPU"]), {"num_cpus": 1}


def label_on_ray(
    spec: LabellerSpec, orders: Sequence[ShardOrder], *, count: int, timeout_s: float
) -> Iterator[Result]:
    """Label on Ray actors, one model load each, on this machine unless RAY_ADDRESS says another.

    `count` actors; 0: one for each GPU where there are some, else for each processor core. Raises
    StageError when the model must have a GPU and there is none.
    """
    # Ray reads these when it is imported; a worker must not phone home nor print banners.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        # A cluster of our own listens on this machine only.
        own: dict[str, Any] = {} if address else {"_node_ip_address": "127.0.0.1"}
        ray.init(
            address=address,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **own,
        )
    try:
        num_actors, resources = _actors(ray, spec, count)
        pool = _Pool(
            spec=spec,
            num_actors=min(num_actors, len(orders)),
            resources=resources,
            timeout_s=timeout_s,
            queue=deque(orders),
        )
        yield from pool.run(ray)
    finally:
        if started:
            ray.shutdown()
