"""Shards on Ray. The only module that knows Ray.

Where the model computes on GPUs there are three pools: tasks that fetch and decode images, actors
that each hold the model on a share of a GPU, and tasks that bring masks to full size and write
them. Each actor has the next shard's images read while it works, and no more, so that it does not
wait and memory stays bounded. Where it computes on CPUs, all three would compete for the same
cores, and an actor does all parts of its shards.

Actors and tasks of our own, and not Ray Data, because a worker that hangs must be found out: Ray
replaces what dies, and waits for ever for what does not.
"""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flows.errors import StageError
from flows.generation.shard_work import (
    LabellerSpec,
    Result,
    ShardFailure,
    ShardLabeller,
    ShardOrder,
    finish_shard,
    read_pixels,
)
from flows.settings import WorkerSettings

# A cluster that scales has more room, or less, after a while.
_LOOK_FOR_ROOM_S = 10.0
_READ_AHEAD = 2
_ANSWERS_WITHIN_S = 5.0


def label_on_ray(
    spec: LabellerSpec,
    orders: Sequence[ShardOrder],
    settings: WorkerSettings,
    *,
    max_attempts: int,
) -> Iterator[Result]:
    """One result per order, from the cluster that `settings` or RAY_ADDRESS names, or one here.

    A shard that fails `max_attempts` times is given up with the last reason. Raises StageError when
    the model must have a GPU and there is none, and when no cluster answers at the address.
    """
    # Ray reads these when it is imported; a worker must not phone home nor print banners.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    import ray.autoscaler.sdk

    started = not ray.is_initialized()
    if started:
        _connect(ray, settings.ray_address or os.environ.get("RAY_ADDRESS", ""))
    try:
        yield from _Pools(ray, spec, settings, orders, max_attempts).run()
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    if not address:
        # A cluster of our own listens on this machine only.
        # Without "local", Ray would join whatever cluster it was last told of, even a dead one.
        ray.init(**quiet, address="local", _node_ip_address="127.0.0.1")
        return
    try:
        _check_answers(address)
        ray.init(**quiet, address=address)
    except (OSError, ValueError, RuntimeError) as error:
        raise StageError(
            f"workers.ray_address: no Ray cluster answers at {address} ({_line(error)}); start one "
            "by: ray start --head, or leave it empty for one on this machine"
        ) from error


def _check_answers(address: str) -> None:
    """Raise OSError or ValueError unless somebody listens there: Ray itself would ask for hours."""
    if address in {"auto", "local"}:
        return
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("must be HOST:PORT, ray://HOST:PORT or auto")
    socket.create_connection((place.hostname, place.port), timeout=_ANSWERS_WITHIN_S).close()


@dataclass(frozen=True)
class _Need:
    """What an actor takes of a cluster."""

    num_cpus: float
    num_gpus: float

    def fits(self, there: Mapping[str, float]) -> int:
        """How many actors the resources of a cluster have room for."""
        if not self.num_gpus:
            return int(there.get("CPU", 0.0) / self.num_cpus)
        # A rounding error must not cost the last share.
        return int(there.get("GPU", 0.0) / self.num_gpus + 1e-6)


def _need(ray: Any, spec: LabellerSpec, settings: WorkerSettings) -> _Need:
    """A share of a GPU where there are some; raises StageError without one that must be there."""
    if spec.device != "cpu" and ray.cluster_resources().get("GPU", 0):
        # Cores are for reading and finishing: with as many actors there would be none left.
        return _Need(num_cpus=0.0, num_gpus=settings.gpus)
    if spec.device == "cuda":
        raise StageError(
            'generate: model.device is "cuda", but Ray sees no GPU; set "auto" or "cpu", or name a '
            "cluster that has one by workers.ray_address"
        )
    return _Need(num_cpus=1.0, num_gpus=0.0)


class _Counts:
    """What Ray's dashboard and whoever reads its metrics see of the work."""

    def __init__(self, model_version: str) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = {"tag_keys": ("model_version",)}
        self._images = Counter("maskloop_images", "Images labelled", **tags)
        self._masks = Counter("maskloop_masks", "Masks made", **tags)
        self._failed = Counter("maskloop_shards_failed", "Shards given up", **tags)
        self._waiting = Gauge("maskloop_shards_waiting", "Shards without a worker", **tags)
        for each in (self._images, self._masks, self._failed, self._waiting):
            each.set_default_tags({"model_version": model_version})

    def tell(self, result: Result, *, waiting: int) -> None:
        """One shard is over, and so many have not begun."""
        self._waiting.set(waiting)
        if isinstance(result, ShardFailure):
            self._failed.inc()
            return
        for counter, number in (
            (self._images, result.num_images),
            (self._masks, result.num_masks),
        ):
            if number:
                counter.inc(number)


@dataclass
class _Job:
    """A shard at work: all its tasks, of which the last gives the receipt."""

    order: ShardOrder
    tasks: list[Any]

    @property
    def result(self) -> Any:
        return self.tasks[-1]


@dataclass
class _Slot:
    """One actor and what it was given, the oldest first; only that has a deadline."""

    actor: Any
    jobs: deque[_Job] = field(default_factory=deque)
    deadline: float = 0.0


class _Pools:
    """Shards in, results out, with a deadline for each shard.

    When one passes, its actor is killed and another takes its place, and the shard is tried again.
    A late file of the first attempt has another name and is never committed.
    """

    def __init__(
        self,
        ray: Any,
        spec: LabellerSpec,
        settings: WorkerSettings,
        orders: Sequence[ShardOrder],
        max_attempts: int,
    ) -> None:
        self._ray = ray
        self._spec = spec
        self._settings = settings
        self._max_attempts = max_attempts
        self._queue = deque(orders)
        self._attempts: dict[str, int] = {}
        self._slots: list[_Slot] = []
        self._asked_for_more = False
        self._need = _need(ray, spec, settings)
        self._room = self._look_for_room()
        # Never again by themselves: a shard that was given up must not be written after all.
        self._actor_class = ray.remote(
            num_cpus=self._need.num_cpus,
            num_gpus=self._need.num_gpus,
            max_restarts=0,
            max_task_retries=0,
        )(ShardLabeller)
        self._read = ray.remote(num_cpus=1, max_retries=2)(read_pixels)
        self._finish = ray.remote(num_cpus=1, max_retries=0)(_finish_each)
        self._constants = ray.put(spec)

    def run(self) -> Iterator[Result]:
        """Work until all shards are done or given up."""
        counts = _Counts(self._spec.model_version)
        try:
            for result in self._worked():
                counts.tell(result, waiting=len(self._queue))
                yield result
        finally:
            if self._asked_for_more:
                # Else a cluster that grew would never shrink again.
                self._ray.autoscaler.sdk.request_resources(bundles=[])

    def _worked(self) -> Iterator[Result]:
        while self._queue or any(slot.jobs for slot in self._slots):
            self._fill()
            waiting = [slot.jobs[0].result for slot in self._slots if slot.jobs]
            ready, _ = self._ray.wait(waiting, num_returns=1, timeout=1.0)
            for slot in list(self._slots):
                if not slot.jobs:
                    continue
                if slot.jobs[0].result in ready:
                    yield from self._collect(slot)
                elif time.monotonic() > slot.deadline:
                    reason = f"no answer within {self._settings.timeout_s:.0f} s"
                    yield from self._replace(slot, reason)

    def _fill(self) -> None:
        """As many actors as there is room and work for, each with work for now and next."""
        if time.monotonic() - self._looked > _LOOK_FOR_ROOM_S:
            self._room = self._look_for_room()
        while self._queue and len(self._slots) < self._room:
            slot = _Slot(self._actor_class.remote(self._spec))
            self._slots.append(slot)
            self._give(slot)
        for slot in sorted(self._slots, key=lambda slot: len(slot.jobs)):
            while self._queue and len(slot.jobs) < (_READ_AHEAD if self._need.num_gpus else 1):
                self._give(slot)

    def _look_for_room(self) -> int:
        """How many actors to have now; asks a cluster that can grow for those there is none for."""
        self._looked = time.monotonic()
        fits = self._need.fits(self._ray.cluster_resources())
        wanted = self._settings.count or fits
        if wanted > fits:
            self._asked_for_more = True
            bundle = {"CPU": self._need.num_cpus, "GPU": self._need.num_gpus}
            asked = {name: amount for name, amount in bundle.items() if amount}
            self._ray.autoscaler.sdk.request_resources(bundles=[asked] * wanted)
        # While a node is being replaced there may be none: the actor waits for it.
        return max(1, min(wanted, fits))

    def _give(self, slot: _Slot) -> None:
        order = self._queue.popleft()
        if not slot.jobs:
            slot.deadline = time.monotonic() + self._settings.timeout_s
        slot.jobs.append(_Job(order, self._started(slot.actor, order)))

    def _started(self, actor: Any, order: ShardOrder) -> list[Any]:
        if not self._need.num_gpus:
            return [actor.label.remote(order)]
        pixels = [self._read.remote(self._spec.reader, ref) for ref in order.images]
        pairs = zip(pixels, order.images, strict=True)
        proposed = [actor.propose.remote(each, ref) for each, ref in pairs]
        return [*pixels, *proposed, self._finish.remote(self._constants, order, *proposed)]

    def _collect(self, slot: _Slot) -> Iterator[Result]:
        errors = self._ray.exceptions
        try:
            receipt = self._ray.get(slot.jobs[0].result)
        except errors.RayTaskError as error:
            # An error of a task before the last arrives as the last one's.
            if isinstance(error.cause, errors.RayActorError):
                yield from self._replace(slot, f"the worker died: {_line(error.cause)}")
            else:
                yield from self._retry(self._taken(slot), _line(error.cause))
        except errors.RayActorError as error:
            yield from self._replace(slot, f"the worker died: {_line(error)}")
        except errors.RayError as error:
            yield from self._retry(self._taken(slot), _line(error))
        else:
            self._taken(slot)
            yield receipt

    def _taken(self, slot: _Slot) -> ShardOrder:
        """The oldest shard of an actor, which is over; the next one's time begins."""
        slot.deadline = time.monotonic() + self._settings.timeout_s
        return slot.jobs.popleft().order

    def _replace(self, slot: _Slot, reason: str) -> Iterator[Result]:
        """Give up an actor: its oldest shard failed, and what was waiting for it did not begin."""
        for job in slot.jobs:
            for task in job.tasks:
                _cancel(self._ray, task)
        self._ray.kill(slot.actor, no_restart=True)
        self._slots.remove(slot)
        failed, *others = slot.jobs
        self._queue.extendleft(job.order for job in reversed(others))
        yield from self._retry(failed.order, reason)

    def _retry(self, order: ShardOrder, reason: str) -> Iterator[Result]:
        self._attempts[order.shard_key] = self._attempts.get(order.shard_key, 0) + 1
        if self._attempts[order.shard_key] < self._max_attempts:
            self._queue.append(order)
        else:
            yield ShardFailure(shard_key=order.shard_key, reason=reason)


def _finish_each(spec: LabellerSpec, order: ShardOrder, *proposed: Any) -> Result:
    return finish_shard(spec, order, proposed)


def _cancel(ray: Any, task: Any) -> None:
    # A task of an actor cannot be forced; it goes with the actor.
    with suppress(ValueError, ray.exceptions.RayError):
        ray.cancel(task, force=True)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
