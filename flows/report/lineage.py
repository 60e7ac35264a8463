"""The family tree of the model versions, as SVG text."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from flows.report.data import Model

COLUMN, LANE, MARGIN, RADIUS = 104, 62, 44, 9
LANES = ("in service, once or now", "not promoted", "control")


def lane(model: Model) -> int:
    """0 for what has served, 1 for what the gate kept out, 2 for controls."""
    if model.role == "control":
        return 2
    return 0 if model.status in ("promoted", "retired") or model.role == "base" else 1


def family_tree(models: Sequence[Model]) -> Markup:
    """One column a version in order of birth, one lane a fate; empty without a model."""
    if not models:
        return Markup("")
    used = sorted({lane(model) for model in models})
    rows = {fate: row for row, fate in enumerate(used)}
    at = {
        model.version: (MARGIN + COLUMN * column, MARGIN + LANE * rows[lane(model)])
        for column, model in enumerate(models)
    }
    width = 2 * MARGIN + COLUMN * (len(models) - 1) + 60
    height = 2 * MARGIN + LANE * (len(used) - 1)
    parts = [
        f'<svg class="tree" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(_spoken(models))}">'
    ]
    parts += [
        _branch(at[model.parent], at[model.version]) for model in models if model.parent in at
    ]
    parts += [_node(model, *at[model.version]) for model in models]
    return Markup("".join([*parts, "</svg>"]))


def _branch(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x0, y0), (x1, y1) = start, end
    # Into its own lane at once: along the parent's it would run through the nodes after it.
    middle, lane = x0 + COLUMN / 2, x0 + COLUMN
    bend = f"C{middle},{y0} {middle},{y1} {lane},{y1} H{x1}"
    return f'<path class="branch" d="M{x0},{y0} {bend}"/>'


def _node(model: Model, x: int, y: int) -> str:
    kind = "control" if model.role == "control" else model.status
    return (
        f'<g class="node {escape(kind)}"><circle cx="{x}" cy="{y}" r="{RADIUS}">'
        f"<title>{escape(model.reason or model.status)}</title></circle>"
        f'<text x="{x}" y="{y - 16}" text-anchor="middle">{escape(model.version)}</text>'
        f'<text class="tick" x="{x}" y="{y + 25}" text-anchor="middle">'
        f"{escape(_below(model))}</text></g>"
    )


def _below(model: Model) -> str:
    if model.role == "base":
        return "start weights"
    return f"{model.num_training_images} images"


def _spoken(models: Sequence[Model]) -> str:
    return "; ".join(
        f"{model.version} {model.status}" + (f", from {model.parent}" if model.parent else "")
        for model in models
    )
