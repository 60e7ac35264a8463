"""`lineage`, `diff`, `revoke`: where masks come from, what changed, what must go."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.tree import Tree

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table, print_tree
from flows.errors import UsageError

if TYPE_CHECKING:
    from flows.lineage.descent import Target
    from flows.lineage.revoking import Blast, RevokeOutcome
    from flows.lineage.tree import Node

_DEPTH = 6
TimeOption = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(lineage)
    app.command()(diff)
    app.command()(revoke)


def lineage(
    name: Annotated[
        str,
        typer.Argument(
            help="A mask, model, detector, snapshot, run, image (also by its file name) or export; "
            "how the name begins is enough."
        ),
    ],
    depth: Annotated[
        int, typer.Option(help="Levels of the tree; what is below is counted.")
    ] = _DEPTH,
    as_json: JsonOption = False,
) -> None:
    """Where something comes from: a tree of masks, prompts, people, runs, models, snapshots.

    Example: maskloop lineage v3 --depth 4
    """
    from flows import workspace
    from flows.lineage import named
    from flows.lineage.tree import tree

    if depth < 0:
        raise UsageError(f"--depth: must be at least 0, but got {depth}")
    opened = workspace.open_workspace()
    root = tree(opened.lake, named.find(opened.lake, name), depth)
    print_json(root.to_dict()) if as_json else print_tree(_drawn(root))


def diff(
    start: Annotated[int, typer.Argument(metavar="SNAP_A", help="A snapshot.")],
    end: Annotated[int, typer.Argument(metavar="SNAP_B", help="Another, usually a later one.")],
    by: Annotated[str, typer.Option(help="image, stage or model.")] = "stage",
    as_json: JsonOption = False,
) -> None:
    """What changed of the masks that stand: added, removed, changed (with IoU), split, merged.

    Example: maskloop diff 12 40 --by model
    """
    from flows import workspace
    from flows.lineage import diffing

    choices: tuple[diffing.By, ...] = get_args(diffing.By)
    chosen = next((choice for choice in choices if choice == by), None)
    if chosen is None:
        raise UsageError(f"--by: must be one of {', '.join(choices)}, but got {by!r}")
    found = diffing.diff(workspace.open_workspace(), start, end)
    print_json(found.to_dict(chosen)) if as_json else print_table(found.groups(chosen))


def revoke(
    annotator: Annotated[str | None, typer.Option(help="Whose masks.")] = None,
    model: Annotated[str | None, typer.Option(help="The model whose automatic masks.")] = None,
    run: Annotated[str | None, typer.Option(help="The run that brought the masks.")] = None,
    since: TimeOption = None,
    until: TimeOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Retire them; without it, only show.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What descends from an annotator, model or run; with --apply their masks stand no more.

    Times are UTC and are those of the masks. Nothing is deleted.

    Example: maskloop revoke --annotator ada --since 2026-03-01 --apply
    """
    from flows import workspace
    from flows.lineage import revoking

    target = _target(annotator, model, run, since, until)
    opened = workspace.open_workspace()
    blast = revoking.blast_radius(opened, target)
    outcome = revoking.revoke(opened, target) if apply else None
    if as_json:
        done = None if outcome is None else vars(outcome) | {"models": list(outcome.models)}
        print_json({**blast.to_dict(), "applied": done})
    else:
        _show(blast, outcome)


def _target(
    annotator: str | None,
    model: str | None,
    run: str | None,
    since: datetime | None,
    until: datetime | None,
) -> "Target":
    from flows.lineage.descent import Target

    given = {"annotator": annotator, "model": model, "run": run}
    named = [(kind, name) for kind, name in given.items() if name is not None]
    if len(named) != 1:
        raise UsageError("revoke: give one of --annotator, --model and --run")
    [(kind, name)] = named
    first, last = _utc(since), _utc(until)
    if first is not None and last is not None and first >= last:
        raise UsageError(f"--until: must be after --since ({first}), but got {last}")
    return Target.from_dict(
        {
            "kind": kind,
            "name": name,
            "since": None if first is None else first.isoformat(),
            "until": None if last is None else last.isoformat(),
        }
    )


def _utc(time: datetime | None) -> datetime | None:
    """As the store keeps times: UTC, without a zone."""
    if time is None or time.tzinfo is None:
        return time
    return time.astimezone(UTC).replace(tzinfo=None)


def _show(blast: "Blast", outcome: "RevokeOutcome | None") -> None:
    print_table(blast.masks, title=f"masks of {blast.target.cause}")
    print_table(blast.models, title="models and detectors with any of them in their line")
    print_table(blast.later_masks, title="masks that these made or helped to make")
    print_table(blast.exports, title="exports with any of all these in them")
    if outcome is None:
        out.print("nothing is changed; --apply retires the masks and these models")
    else:
        out.print(
            f"{outcome.num_masks} masks retired, {len(outcome.models)} models marked, "
            f"{outcome.num_images} images in the queue again"
        )
    if blast.serving is not None:
        instead = (
            f"run: maskloop models promote {blast.sound}, then maskloop generate"
            if blast.sound
            else "no sound version has served"
        )
        out.print(f"{blast.serving}, which serves, is one of them and stays; {instead}")


def _drawn(node: "Node") -> Tree:
    drawn = Tree(_label(node))
    for each in node.below:
        drawn.children.append(_drawn(each))
    if node.num_cut:
        drawn.add(f"... {node.num_cut} more")
    return drawn


def _label(node: "Node") -> str:
    facts = ", ".join(f"{name} {value}" for name, value in node.facts.items())
    words = [node.relation, node.kind, node.name, f"({facts})" if facts else ""]
    return " ".join(filter(None, [*words, "(see above)" if node.is_repeated else ""]))
