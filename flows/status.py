"""`maskloop status`: where the workspace stands, in one value."""

from typing import Any

from flows.workspace import Workspace


def status(workspace: Workspace) -> dict[str, Any]:
    """Images by split, masks by stage, the queue by state, the model in service, the last runs."""
    lake = workspace.lake
    images = lake.rows("SELECT split, count(*) AS n FROM images GROUP BY 1 ORDER BY 1")
    masks = lake.rows("SELECT stage, count(*) AS n FROM current_masks GROUP BY 1 ORDER BY 1")
    runs = lake.rows(
        "SELECT stage, iteration, status, model_version, num_images, num_masks, seconds, "
        "started_at FROM runs ORDER BY started_at DESC LIMIT 8"
    )
    current = workspace.pointer.current()
    return {
        "workspace": str(workspace.root),
        "snapshot": lake.snapshot(),
        "images": {row["split"]: row["n"] for row in images},
        "masks": {row["stage"]: row["n"] for row in masks},
        "queue": workspace.queue.counts(),
        "model": current and current[0],
        "runs": runs,
    }
