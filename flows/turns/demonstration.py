"""`maskloop demo`: images drawn by the project, few labels, two turns, and what they bought."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import coco, images, rle
from engine.drawing.scenes import SceneStyle, draw_scene
from flows import settings, workspace
from flows.intake.coco_import import ImportOptions, import_coco
from flows.processes import launch
from flows.progress import Progress
from flows.report import reporting
from flows.turns.loop import LoopConfig
from flows.workspace import Workspace
from storage.catalog import sqlgate

LABELLED, GOLD, SEED = 0.025, 0.25, 3


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question, the SQL that asks it, and the store's answer as lines."""

    question: str
    sql: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DemoOutcome:
    """What the demo leaves to look at."""

    report: Path
    answers: tuple[Answer, ...]
    next_steps: tuple[str, ...]


QUESTIONS = (
    (
        "How many masks stand, by the stage that made them?",
        "SELECT stage, count(*) AS masks, count(DISTINCT image_id) AS images "
        "FROM current_masks GROUP BY 1 ORDER BY 1",
    ),
    (
        "Which model made them, and what was it trained on?",
        "SELECT v.version, v.parent, v.training_snapshot AS snapshot, "
        "v.num_training_masks AS trained_on, count(*) AS made FROM current_masks m "
        "JOIN model_versions v ON m.model_version = v.version "
        "GROUP BY ALL ORDER BY 1",
    ),
    (
        "What did people do with the model's proposals?",
        "SELECT model_version, action, count(*) AS proposals FROM decisions "
        "WHERE action <> 'withheld' GROUP BY ALL ORDER BY 1, 2",
    ),
    (
        "Did the loop learn more than its control? (gold set)",
        "SELECT e.model_version, v.role, round(e.value, 3) AS iou_1_click FROM evaluations e "
        "JOIN model_versions v ON e.model_version = v.version "
        "WHERE e.metric = 'iou_1_click' AND e.split = 'gold' ORDER BY v.created_at",
    ),
)


def run(folder: Path, *, quick: bool, progress: Progress) -> DemoOutcome:
    """Run the demo in `folder`; a second call goes on where the first stopped."""
    num_images = 24 if quick else 100
    opened = _workspace(folder / "workspace")
    # A Prefect server takes its time to come up; meanwhile images are drawn.
    progress.note(launch.prepare(opened))
    truth = draw_images(folder / "pictures", num_images, progress)
    import_coco(
        opened,
        truth,
        folder / "pictures",
        ImportOptions(labelled=LABELLED if not quick else 0.25, gold=GOLD, seed=SEED),
        lambda done, total: progress.step("images read", done, total),
    )
    config = LoopConfig(iterations=2, annotate="simulated", truth=truth, control=True)
    if not _finished(opened):
        launch.flows().loop_flow(
            str(opened.root), "demo-quick" if quick else "demo", config.to_dict()
        )
    report = reporting.write_report(opened, folder / "report.html")
    return DemoOutcome(
        report=report,
        answers=tuple(_ask(opened, question, sql) for question, sql in QUESTIONS),
        next_steps=(
            "",
            "Next, on your own images:",
            "  maskloop init masks && cd masks",
            "  maskloop import coco LABELS.json --images DIR     the labels you have",
            "  maskloop add DIR                                  images without labels",
            "  maskloop loop --iterations 2                      people annotate in between",
            f"Look around in the demo: cd {opened.root} && maskloop status",
        ),
    )


def _workspace(root: Path) -> Workspace:
    if (root / settings.FILE_NAME).is_file():
        return workspace.open_workspace(root)
    return workspace.create(root)


def _finished(opened: Workspace) -> bool:
    return bool(
        opened.lake.rows("SELECT 1 FROM runs WHERE stage = 'loop' AND status = 'done' LIMIT 1")
    )


def draw_images(folder: Path, num_images: int, progress: Progress) -> Path:
    """Draw seeded scenes as PNG files, and their exact masks as a COCO file; returns the latter."""
    truth = folder.parent / "truth.json"
    if truth.is_file() and len(coco.read(truth).images) == num_images:
        return truth
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[coco.CocoImage] = []
    masks: list[coco.CocoMask] = []
    for number in range(1, num_images + 1):
        scene = draw_scene(number, SceneStyle.demo())
        name = f"scene-{number:04d}.png"
        (folder / name).write_bytes(images.encode_png(scene.image))
        height, width = scene.image.shape[:2]
        entries.append(coco.CocoImage(id=number, file_name=name, height=height, width=width))
        for mask, kind in zip(rle.encode(scene.masks), scene.kinds, strict=True):
            masks.append(
                coco.CocoMask(
                    id=len(masks) + 1, image_id=number, category=kind, rle=mask, is_crowd=False
                )
            )
        progress.step("images drawn", number, num_images)
    kinds = sorted({mask.category for mask in masks if mask.category})
    document = coco.document(
        entries, masks, dict(enumerate(kinds, start=1)), {"description": "drawn by maskloop"}
    )
    # Last and at once: a half-drawn folder has no truth file and is drawn again.
    part = truth.with_suffix(".tmp")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.replace(truth)
    return truth


def _ask(opened: Workspace, question: str, sql: str) -> Answer:
    rows: list[dict[str, Any]] = sqlgate.run_user_sql(opened.lake, sql).to_pylist()
    lines = tuple(", ".join(f"{key} {value}" for key, value in row.items()) for row in rows)
    return Answer(question=question, sql=sql, lines=lines)
