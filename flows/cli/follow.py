"""`follow`: the loop turns by itself, without a Prefect server."""

import typer

from flows.cli.stages import RecipeOption
from flows.cli.terminal import err, terminal_progress


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(follow)


def follow(recipe: RecipeOption = None) -> None:
    """The annotator, and a turn whenever enough is answered or nothing waits, until Ctrl+C.

    Example: maskloop follow
    """
    from flows import workspace
    from flows.processes import launch
    from flows.recipes import recipe_named
    from flows.turns import following

    opened = workspace.open_workspace()
    name = recipe_named(recipe or opened.settings.recipe).name
    with following.alone(opened), terminal_progress() as progress:
        err.print(launch.prepare(opened))
        flows = launch.flows()
        with flows.tagged():
            following.follow(opened, flows.works(), name, progress)
