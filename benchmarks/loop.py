"""What people's work buys: gold scores of each turn, beside a control with the first labels only.

`python benchmarks/loop.py [--json] [--quick]` runs the demo in a folder of its own. Loop and
control start from the same weights and train as many steps; both are scored on one gold set.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from flows.cli.terminal import terminal_progress
from flows.turns import demonstration
from flows.workspace import open_workspace

SCORES = """
    SELECT r.stage, r.iteration, r.model_version AS version, e.metric, e.value
    FROM runs r JOIN evaluations e ON e.model_version = r.model_version
    WHERE r.stage IN ('train', 'control') AND r.status = 'done' AND e.split = 'gold'
      AND e.metric IN ('iou_1_click', 'iou_3_clicks', 'iou_5_clicks', 'noc85', 'f1_50')
    ORDER BY r.iteration, r.stage DESC
"""


def curves(folder: Path, *, quick: bool) -> list[dict[str, object]]:
    """One row for each training: its turn, whether it is the control, and its scores."""
    with terminal_progress() as progress:
        demonstration.run(folder, quick=quick, progress=progress)
    found: dict[tuple[str, int], dict[str, object]] = {}
    for row in open_workspace(folder / "workspace").lake.rows(SCORES):
        turn = found.setdefault(
            (row["stage"], row["iteration"]),
            {"line": row["stage"].replace("train", "loop"), "turn": row["iteration"]},
        )
        turn[row["metric"]] = row["value"]
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = curves(Path(folder), quick=options.quick)
    last = {str(row["line"]): row for row in rows}
    result = {
        "turns": rows,
        "loop_over_control_iou_1_click": float(str(last["loop"]["iou_1_click"]))
        / max(1e-9, float(str(last["control"]["iou_1_click"]))),
    }
    if options.json:
        print(json.dumps(result))
        return
    for row in rows:
        print(
            "  ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    print(f"loop over control, IoU at 1 click: {result['loop_over_control_iou_1_click']:.3f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
