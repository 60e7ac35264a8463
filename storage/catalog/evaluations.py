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


def by_image(
    lake: Lake, version: str, *, split: str, config_hash: str
) -> dict[str, tuple[int, dict[str, float]]]:
    """Image id -> (masks, metric -> mean over them) of one version, measured under one config.

    These are the rows whose split is `SPLIT:IMAGE_ID`.
    """
    rows = lake.rows(
        "SELECT split, metric, value, num_masks FROM evaluations "
        "WHERE model_version = ? AND starts_with(split, ?) AND config_hash = ? "
        "ORDER BY created_at, split",
        (version, f"{split}:", config_hash),
    )
    found: dict[str, tuple[int, dict[str, float]]] = {}
    for row in rows:
        _, metrics = found.setdefault(row["split"].partition(":")[2], (row["num_masks"], {}))
        metrics[row["metric"]] = row["value"]
    return found
