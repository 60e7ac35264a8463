"""Rows that the report tells of."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.rows import ModelVersionRow, utcnow


@pytest.fixture
def version() -> Callable[..., ModelVersionRow]:
    """Makes a model version by its name and its parent's."""

    def make(name: str, parent: str | None, **more: Any) -> ModelVersionRow:
        values: dict[str, Any] = {"role": "candidate", "status": "retired", "run_id": "run"} | more
        return ModelVersionRow(
            version=name,
            parent=parent,
            weights_uri="weights",
            weights_sha256="00",
            architecture="nano",
            config_hash="c",
            config="{}",
            training_snapshot=1,
            num_training_images=4,
            num_training_masks=9,
            generation_depth=1,
            created_at=utcnow(),
            **values,
        )

    return make
