"""`annotators`: who may work on the review queue, each with a token of their own."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import err, out, print_json, print_table
from flows.errors import UsageError

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from storage.queue.people import People, Role

NameArgument = Annotated[str, typer.Argument(help="How the person signs their work.")]
RoleOption = Annotated[
    str, typer.Option(help="annotator, or lead: sees everybody's work, and gives items back.")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    group = typer.Typer(
        help="Let people into the review queue.\n\nExample: maskloop annotators add ada",
        no_args_is_help=True,
    )
    group.command()(add)
    group.command("list")(list_annotators)
    group.command()(renew)
    group.command()(revoke)
    app.add_typer(group, name="annotators")


def add(name: NameArgument, role: RoleOption = "annotator") -> None:
    """Let somebody in: prints their token, once. From the first one on, everybody signs in.

    Example: maskloop annotators add ada --role lead
    """
    from flows import workspace
    from storage.queue.errors import NameTaken

    wanted, checked = _name(name), _role(role)
    opened = workspace.open_workspace()
    people = _people(opened)
    first = not people.any_added()
    try:
        token = people.add(wanted, checked)
    except NameTaken as error:
        raise UsageError(
            f"annotators add: {error}, and signed work stays its owner's; choose another name, "
            f"or give them a new token: maskloop annotators renew {name}"
        ) from error
    _show_token(opened, f"{name} is let in as {role}", token)
    if first:
        err.print("From now on everybody signs in, also where a maskloop serve runs already.")


def list_annotators(as_json: JsonOption = False) -> None:
    """Who was let in, as what, and who was revoked since.

    Example: maskloop annotators list
    """
    from flows import workspace

    rows = [
        {
            "name": person.name,
            "role": person.role,
            "added": person.created_at.isoformat(timespec="seconds"),
            "revoked": person.revoked_at and person.revoked_at.isoformat(timespec="seconds"),
            "sessions": person.num_sessions,
        }
        for person in _people(workspace.open_workspace()).everybody()
    ]
    print_json(rows) if as_json else print_table(rows)


def renew(name: NameArgument) -> None:
    """Give somebody a new token; the old one and all sessions end. Undoes a revocation.

    Example: maskloop annotators renew ada
    """
    from flows import workspace
    from storage.queue.errors import UnknownPerson

    opened = workspace.open_workspace()
    try:
        token = _people(opened).renew(name)
    except UnknownPerson as error:
        raise _nobody("renew", error) from error
    _show_token(opened, f"{name} has a new token", token)


def revoke(name: NameArgument) -> None:
    """Let somebody in no more, at once; what they have done stays.

    Example: maskloop annotators revoke ada
    """
    from flows import workspace
    from storage.queue.errors import UnknownPerson

    try:
        _people(workspace.open_workspace()).revoke(name)
    except UnknownPerson as error:
        raise _nobody("revoke", error) from error
    out.print(f"{name} is let in no more; what they have done stays")


def _people(opened: "Workspace") -> "People":
    from storage.queue.people import People

    return People(opened.queue.database)


def _name(name: str) -> str:
    from annotator.signature import check_name

    try:
        return check_name(name)
    except ValueError as error:
        raise UsageError(f"annotators add: {error}") from error


def _role(role: str) -> "Role":
    if role == "annotator":
        return "annotator"
    if role == "lead":
        return "lead"
    raise UsageError(f"--role: must be annotator or lead, but got {role!r}")


def _nobody(command: str, error: Exception) -> UsageError:
    return UsageError(f"annotators {command}: {error}; see: maskloop annotators list")


def _show_token(opened: "Workspace", what: str, token: str) -> None:
    from flows.annotating.doors import public_url

    out.print(f"{what}. The token is shown once, here; only its hash is kept:")
    out.print(f"  {token}")
    out.print("Open this link to sign in, while maskloop serve runs:")
    # After the #, which browsers keep to themselves: no server's log ever has the token.
    out.print(f"  {public_url(opened.settings.annotator)}/sign-in#{token}")
    out.print("Programs take it from the environment, as MASKLOOP_TOKEN.")
