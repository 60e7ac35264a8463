"""`serve`: the Prefect server with its UI, the deployments, and the review-queue API."""

import typer

from flows.cli.terminal import err


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(serve)


def serve() -> None:
    """Start the Prefect server and UI, the deployments with their schedules, and the annotator.

    Example: maskloop serve
    """
    from flows import workspace
    from flows.processes import supervisor

    opened = workspace.open_workspace()
    supervisor.serve(opened, tell=err.print)
