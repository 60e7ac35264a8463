"""`status` and `report`: where things stand."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(status)
    app.command()(report)


def status(as_json: JsonOption = False) -> None:
    """Images, masks by stage, the queue, the model in service, what is due, the last turns.

    Example: maskloop status
    """
    from flows import workspace
    from flows.turns.status import status as status_of

    facts = status_of(workspace.open_workspace())
    if as_json:
        print_json(facts)
        return
    out.print(f"workspace {facts['workspace']} at snapshot {facts['snapshot']}")
    for name in ("images", "masks", "queue"):
        parts = ", ".join(f"{count} {key}" for key, count in facts[name].items() if count)
        out.print(f"{name:9} {parts or 'none'}")
    out.print(f"model     {facts['model'] or 'none yet; the first stage puts one in service'}")
    out.print(f"due       {facts['due']}")
    if facts["advice"]:
        out.print(f"advice    {facts['advice']}")
    if facts["turns"]:
        print_table(facts["turns"], title="last turns")
    print_table(facts["runs"], title="last runs")


def report(
    output: Annotated[Path, typer.Argument(help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page: what each iteration did, curves, pictures, lineage.

    Example: maskloop report report.html
    """
    from flows import workspace
    from flows.report import reporting

    path = reporting.write_report(workspace.open_workspace(), output)
    out.print(str(path))
