"""Which model is in service: gate decisions, promotions by compare-and-swap, rollback, history.

Readers take (version, generation) once per run; a promotion names the generation it was judged
against and fails when another one came between, so that no gate is passed against an old rival.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Self

from sqlalchemy import Connection, Row, insert, select, update

from storage.failpoints import failpoint
from storage.queue.database import Database, QueueClock, as_utc
from storage.queue.documents import check_name, to_text
from storage.queue.errors import StaleGeneration
from storage.queue.schema import current_model, gates, promotions


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """What the gate said of a model, with the numbers it looked at.

    A decision that passes has finite metrics; one that fails may keep the number that failed it.
    """

    model_version: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    passed: bool
    reason: str
    compared_with: str | None = None

    def __post_init__(self) -> None:
        check_name("model_version", self.model_version)
        if not self.reason.strip():
            raise ValueError(f"reason: must say why, got {self.reason!r}")
        for name, value in self.metrics.items():
            if self.passed and not math.isfinite(value):
                raise ValueError(f"metrics[{name!r}]: must be finite to pass, got {value}")


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """One change of the model in service.

    A rollback restores an earlier generation, and carries the gate that its model passed then; a
    promotion restores its own.
    """

    generation: int
    model_version: str
    gate_id: int
    kind: Literal["promote", "rollback"]
    restores: int
    at: datetime | None = field(default=None, compare=False)


class ModelPointer:
    """The model in service; may raise QueueUnavailable like the queue, whose database it shares."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str, *, clock: QueueClock | None = None) -> Self:
        """Open a database, making its tables when missing; urls, errors as in `Database.open`."""
        return cls(Database.open(url, clock=clock))

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def current(self) -> tuple[str, int] | None:
        """The version in service and its generation, None before the first promotion."""
        statement = select(current_model.c.model_version, current_model.c.generation)
        with self._database.read() as connection:
            row = connection.execute(statement).one()
        return None if row.model_version is None else (row.model_version, row.generation)

    def record_gate(self, decision: GateDecision) -> int:
        """Keep a decision, passed or not; returns its id."""
        metrics = {name: _storable(value) for name, value in decision.metrics.items()}
        with self._database.write() as connection:
            statement = insert(gates).values(
                model_version=decision.model_version,
                compared_with=decision.compared_with,
                metrics=to_text("metrics", metrics),
                passed=int(decision.passed),
                reason=decision.reason,
                at=self._database.now(connection),
            )
            return int(connection.execute(statement.returning(gates.c.gate_id)).scalar_one())

    def promote(self, version: str, seen_generation: int, gate_id: int) -> bool:
        """Put `version` in service if generation `seen_generation` (0: none yet) still is.

        False when another promotion came first: judge again. The same call again after a lost
        answer returns True and changes nothing. Raises ValueError for a gate that did not pass or
        is of another model.
        """
        new = Promotion(
            generation=seen_generation + 1,
            model_version=version,
            gate_id=gate_id,
            kind="promote",
            restores=seen_generation + 1,
        )
        with self._database.write() as connection:
            _check_gate(connection, version, gate_id)
            done = self._swap(connection, new) or _find(connection, new.generation) == new
        failpoint("promote.after_cas")
        return done

    def former(self) -> str | None:
        """The version that `rollback` would put back, None if there is none."""
        with self._database.read() as connection:
            generation = connection.execute(select(current_model.c.generation)).scalar_one()
            before = _before(connection, generation)
        return None if before is None else before.model_version

    def rollback(self, seen_generation: int) -> str | None:
        """Put back the model that served before; returns its version, None if there was none.

        It is a new generation. Rolling back twice goes back two models, not to and fro. Raises
        StaleGeneration when `seen_generation` is not the one in service.
        """
        with self._database.write() as connection:
            _check_serving(connection, seen_generation)
            before = _before(connection, seen_generation)
            if before is None:
                return None
            back = replace(before, generation=seen_generation + 1, kind="rollback")
            self._swap(connection, back)
        failpoint("promote.after_cas")
        return back.model_version

    def history(self) -> list[Promotion]:
        """Every change of the model in service, oldest first."""
        statement = select(promotions).order_by(promotions.c.generation)
        with self._database.read() as connection:
            return [_promotion_of(row) for row in connection.execute(statement)]

    def _swap(self, connection: Connection, new: Promotion) -> bool:
        served = update(current_model).where(current_model.c.generation == new.generation - 1)
        values = {"model_version": new.model_version, "generation": new.generation}
        if connection.execute(served.values(**values)).rowcount == 0:
            return False
        now = self._database.now(connection)
        row = {"gate_id": new.gate_id, "kind": new.kind, "restores": new.restores, "at": now}
        connection.execute(insert(promotions).values(**values, **row))
        return True


def _storable(value: float) -> float | str:
    # JSON has no NaN and no infinity; a decision that fails because of one keeps it as a word.
    return value if math.isfinite(value) else str(value)


def _check_gate(connection: Connection, version: str, gate_id: int) -> None:
    gate = connection.execute(select(gates).where(gates.c.gate_id == gate_id)).one_or_none()
    if gate is None or not gate.passed or gate.model_version != version:
        got = "none" if gate is None else f"{gate.model_version}, passed: {bool(gate.passed)}"
        raise ValueError(f"gate_id: must be a passed gate of {version}, got {gate_id} ({got})")


def _check_serving(connection: Connection, seen_generation: int) -> None:
    # Locked, so that of two at once the second sees what the first did.
    serving = select(current_model.c.generation).with_for_update()
    generation = connection.execute(serving).scalar_one()
    if generation != seen_generation:
        raise StaleGeneration(
            f"models: generation {generation} is in service, not {seen_generation}; look again"
        )


def _find(connection: Connection, generation: int) -> Promotion | None:
    statement = select(promotions).where(promotions.c.generation == generation)
    row = connection.execute(statement).one_or_none()
    return None if row is None else _promotion_of(row)


def _before(connection: Connection, generation: int) -> Promotion | None:
    serving = _find(connection, generation)
    return serving and _find(connection, serving.restores - 1)


def _promotion_of(row: Row[Any]) -> Promotion:
    return Promotion(
        generation=row.generation,
        model_version=row.model_version,
        gate_id=row.gate_id,
        kind=row.kind,
        restores=row.restores,
        at=as_utc(row.at),
    )
