"""`backup email`: whether mail can be sent."""

import os
from typing import Annotated

import typer

from backup_tool.cli import console
from backup_tool.cli.app import app, verb
from backup_tool.cli.session import Session
from backup_tool.names import shown

group = typer.Typer(help="Sending notes by mail: whether the settings are right.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(group, name="email")


@group.callback()
def _group() -> None:
    pass


@verb(group, "test", repository=False)
def try_out(
    session: Session,
    to: Annotated[str | None, typer.Option("--to", metavar="ADDRESS", help="Whom to send it to. Yourself by default.")] = None,
) -> None:
    """Send a short mail with the settings there are, and tell what the server takes.

    backup email test
    """
    from backup_tool.actions.mail import find_mailbox, send_trial

    trial = send_trial(find_mailbox(session.settings, os.environ, session.state.unsent), to)
    where = f"{shown(trial.host)}, port {trial.port}, {trial.security}"
    session.result(
        trial, lambda: print(f"sent a test mail to {shown(trial.to)} by {where}; a mail may have {console.size(trial.max_size)}")
    )
