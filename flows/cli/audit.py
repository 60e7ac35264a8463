"""`audit`: how good the automatic masks are, by people who correct some of them."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table
from flows.errors import UsageError

if TYPE_CHECKING:
    from flows.asking.auditing import AuditReport

_IMAGES = 50


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(audit)


def audit(
    images: Annotated[
        int | None,
        typer.Option(
            help=f"How many images are audited in all; default: {_IMAGES}.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Which images; default: 0.", show_default=False)
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Say what the answers that were merged come to.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="With --report: a version; default: in service.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have people correct the automatic masks of some images, and measure the masks by that.

    Example: maskloop audit --images 50
    """
    from flows import workspace
    from flows.asking.auditing import audit_report, audit_stage

    if report and (images is not None or seed is not None):
        raise UsageError("--report: takes no --images or --seed; all answers to the audit count")
    if model is not None and not report:
        raise UsageError("--model: goes with --report; what is audited is the model in service")
    opened = workspace.open_workspace()
    if report:
        found = audit_report(opened, model)
        print_json(found.flat()) if as_json else _show(found)
        return
    outcome = audit_stage(opened, _IMAGES if images is None else images, seed or 0)
    if as_json:
        print_json(asdict(outcome))
        return
    out.print(
        f"{outcome.num_images} images are in the audit of {outcome.version}: {outcome.num_new} new "
        f"ones with {outcome.num_masks} automatic masks wait for people; next: maskloop serve, "
        "maskloop merge, maskloop audit --report"
    )


def _show(found: "AuditReport") -> None:
    shares = {"IoU over 0.90": found.over_90, "IoU over 0.75": found.over_75}
    rows = [
        {
            "automatic masks": name,
            "share": share and f"{share.value:.4f}",
            "95% interval": share and f"{share.interval.low:.4f} to {share.interval.high:.4f}",
        }
        for name, share in shares.items()
    ]
    title = (
        f"{found.version}: {found.num_masks} automatic masks on {found.num_images} images, "
        f"{found.num_rejected} rejected, {found.num_missed} missed"
    )
    print_table(rows, title=title)
