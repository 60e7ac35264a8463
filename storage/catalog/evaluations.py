"""Scores of model versions. A version may be measured again: the newest figure stands."""

from storage.catalog.lake import Lake


def of(lake: Lake, version: str, *, split: str, config_hash: str) -> dict[str, float]:
    """Metric -> value of one version, measured under one config; empty when it was not."""
    rows = lake.rows(
        "SELECT metric, value FROM evaluations "
        "WHERE model_version = ? AND split = ? AND config_hash = ? ORDER BY created_at",
        (version, split, config_hash),
    )
    return {row["metric"]: row["value"] for row in rows}


def by_model(lake: Lake, *, split: str) -> dict[str, dict[str, float]]:
    """Version -> metric -> value, for every version that was measured on `split`."""
    rows = lake.rows(
        "SELECT model_version, metric, value FROM evaluations WHERE split = ? ORDER BY created_at",
        (split,),
    )
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["model_version"], {})[row["metric"]] = row["value"]
    return found
