"""`train`, `assist`, `loop`, `annotate`, `merge`: the stages, as Prefect flow runs."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.terminal import out, print_json, terminal_progress
from flows.errors import StageError, UsageError

if TYPE_CHECKING:
    from annotator.visit import SimulationConfig
    from flows.workspace import Workspace

RecipeOption = Annotated[
    str | None,
    typer.Option(
        help="A recipe, such as nano or quick; default: maskloop.toml's.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (train, assist, loop, annotate, merge):
        app.command()(command)


def train(recipe: RecipeOption = None, as_json: JsonOption = False) -> None:
    """Stage 1: train on the labels there are; the gate promotes or rejects.

    Example: maskloop train
    """
    result = run("train", recipe)
    verdict = "promoted" if result["promoted"] else "rejected"
    show(result, as_json, f"{result['version']} {verdict}: {result['reason']}")


def assist(
    recipe: RecipeOption = None,
    propose: Annotated[
        str | None, typer.Option(help="grid or detector; default: maskloop.toml's.")
    ] = None,
    choose: Annotated[
        str | None,
        typer.Option(
            help="random, uncertainty, diversity, coverage or mixture; default: maskloop.toml's."
        ),
    ] = None,
    promise: Annotated[
        float | None,
        typer.Option(
            help="Show only proposals that people will accept as they are this often, such as "
            "0.95; until enough is known of them, none."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stage 2: choose images, pre-fill confident masks, put them into the review queue.

    Example: maskloop assist --promise 0.95
    """
    from flows.recipes import AssistConfig

    given = {"propose": propose, "choose": choose, "promise": promise}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        AssistConfig(**changes)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    result = run("assist", recipe, changes=changes)
    show(
        result,
        as_json,
        f"{result['num_items']} images with {result['num_proposals']} proposals wait for people; "
        "next: maskloop serve",
    )


def merge(as_json: JsonOption = False) -> None:
    """Bring people's submissions into the store.

    Example: maskloop merge
    """
    result = run("merge", None)
    disputes = result["num_disputes"]
    show(
        result,
        as_json,
        f"{result['num_submissions']} submissions merged: {result['num_masks']} masks"
        + (f"; {disputes} images on which people disagree wait for a lead" if disputes else ""),
    )


def loop(
    iterations: Annotated[int, typer.Option(help="Turns of train, assist, people, merge.")] = 2,
    annotate: Annotated[str, typer.Option(help="people or simulated.")] = "people",
    truth: Annotated[
        Path | None, typer.Option(help="What the simulated annotator knows (COCO).")
    ] = None,
    recipe: RecipeOption = None,
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Train a control that only has the first labels; default: when simulated.",
        ),
    ] = None,
    deadline_h: Annotated[
        float | None, typer.Option(help="Hours to wait for people; default: maskloop.toml's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn the loop; stopped, the same command goes on.

    Example: maskloop loop --iterations 2 --annotate simulated --truth annotations.json
    """
    from flows import workspace
    from flows.recipes import recipe_named
    from flows.training.labels import check_truth
    from flows.turns.loop import LoopConfig

    if annotate not in ("people", "simulated"):
        raise UsageError(f"--annotate: must be people or simulated, but got {annotate!r}")
    opened = workspace.open_workspace()
    if truth is not None:
        check_truth(opened, truth)
    hours = opened.settings.annotator.deadline_h if deadline_h is None else deadline_h
    config = LoopConfig(
        iterations=iterations,
        annotate="simulated" if annotate == "simulated" else "people",
        truth=truth.resolve() if truth else None,
        control=annotate == "simulated" if control is None else control,
        deadline_s=hours * 3600,
    )
    result = as_flow_run(
        opened,
        lambda flows: flows.loop_flow(
            str(opened.root), recipe_named(recipe or opened.settings.recipe).name, config.to_dict()
        ),
    )
    show(
        result,
        as_json,
        f"done: {result['version']} serves, {result['num_generated']} automatic masks; "
        "next: maskloop report, maskloop status",
    )


def annotate(
    simulate: Annotated[bool, typer.Option(help="Annotate from a truth file, as a person would.")],
    truth: Annotated[Path, typer.Option(help="COCO annotations of the images in the queue.")],
    url: Annotated[
        str | None, typer.Option(help="The annotator's address; default: maskloop.toml's.")
    ] = None,
    annotator: Annotated[
        str | None,
        typer.Option(
            help="Signs the submissions, as simulated-NAME; default: as whom the token is, or "
            "simulated.",
            show_default=False,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Of maskloop annotators add simulated-NAME, where people sign in. Better in the "
            "environment: others can read command lines.",
            envvar="MASKLOOP_TOKEN",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            help="Clicks for each image; default: 60, or with --careful what it takes.",
            show_default=False,
        ),
    ] = None,
    careful: Annotated[
        bool,
        typer.Option("--careful", help="Leave exact masks only, drawn where clicks fall short."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Work the review queue over HTTP with a simulated annotator.

    Example: maskloop annotate --simulate --truth annotations.json --url http://127.0.0.1:8765
    """
    from annotator.client import ApiError, UnavailableError
    from annotator.signature import simulated_signature
    from annotator.simulated import SignatureError, run_simulated
    from annotator.truth import TruthError
    from flows import workspace
    from flows.annotating.doors import local_url

    if not simulate:
        raise UsageError("--simulate: people annotate in the browser; run: maskloop serve")
    try:
        signature = None if annotator is None else simulated_signature(annotator)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    config = _simulation(budget, careful=careful)
    if url is None:
        settings = workspace.open_workspace().settings.annotator
        url = local_url(settings.host, settings.port)
    try:
        with terminal_progress() as progress:
            summary = run_simulated(
                url,
                truth,
                annotator=signature,
                token=token or None,
                config=config,
                on_item=lambda done: progress.step("images annotated", done, done),
            )
    except TruthError as error:
        raise UsageError(f"--truth: {error}") from error
    except SignatureError as error:
        raise UsageError(f"--{error}") from error
    except (ApiError, UnavailableError) as error:
        raise StageError(str(error)) from error
    except ValueError as error:
        raise UsageError(f"--url: {error}") from error
    show(
        asdict(summary),
        as_json,
        f"{summary.num_items} images: {summary.num_accepted} accepted, "
        f"{summary.num_edited} edited, {summary.num_rejected} rejected, "
        f"{summary.num_added} added, {summary.num_clicks} clicks",
    )


def _simulation(budget: int | None, *, careful: bool) -> "SimulationConfig":
    """How the simulated annotator works; raises UsageError."""
    from annotator.visit import SimulationConfig

    if budget is None:
        return SimulationConfig.careful() if careful else SimulationConfig()
    if careful:
        raise UsageError("--budget: a careful annotator takes what clicks it needs; leave it out")
    if budget < 1:
        raise UsageError(f"--budget: must be at least 1, but got {budget}")
    return SimulationConfig(num_clicks_per_image=budget)


def run(stage: str, recipe: str | None, **parameters: Any) -> dict[str, Any]:
    """One stage of the workspace as a flow run; returns what it did."""
    from flows import workspace
    from flows.recipes import recipe_named

    opened = workspace.open_workspace()
    name = recipe_named(recipe or opened.settings.recipe).name
    return as_flow_run(
        opened,
        lambda flows: getattr(flows, f"{stage}_flow")(str(opened.root), name, **parameters),
    )


def as_flow_run(opened: "Workspace", call: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """What `call` gives, given the module of the flows, with progress shown."""
    from flows.processes import launch

    with terminal_progress() as progress:
        where = launch.prepare(opened)
        progress.note(where)
        flows = launch.flows()
        with flows.tagged():
            return call(flows)


def show(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print what was done."""
    if as_json:
        print_json(result)
    else:
        out.print(text)
