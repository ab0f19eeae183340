"""`backup email`: whether mail can be sent, and the sign-in for it."""

import os
from typing import Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import app, verb
from backup_tool.cli.session import Session
from backup_tool.names import shown

group = typer.Typer(help="Sending notes by mail: the sign-in, and whether it works.", no_args_is_help=True, rich_markup_mode=None)
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

    trial = send_trial(find_mailbox(session.settings, os.environ, session.state), to)
    where = "Gmail" if trial.via == "gmail" else f"{shown(trial.host)}, port {trial.port}, {trial.security}"
    session.result(
        trial, lambda: print(f"sent a test mail to {shown(trial.to)} by {where}; a mail may have {console.size(trial.max_size)}")
    )
    if trial.unsent:
        session.note(console.unsent(trial.unsent, session.state.unsent))


@verb(group, "login", repository=False)
def sign_in(
    session: Session,
    client: Annotated[
        str | None, typer.Option("--client", metavar="FILE", help="The file of your own client. By default that of Google Drive.")
    ] = None,
    paste: Annotated[bool, typer.Option("--paste", help="The browser is on another machine; paste the address it ends on.")] = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="For scripts: the answers are lines of standard input.")] = False,
) -> None:
    """Allow backup to send mail through Gmail, once: to send, and nothing else.

    backup email login --client ~/Downloads/client_secret.json
    """
    from backup_tool.actions.mail import find_mailbox, sign_in_to_mail

    mailbox = find_mailbox(session.settings, os.environ, session.state)
    person = console.Scripted() if stdin else console.Terminal()
    sign_in_to_mail(session.settings, mailbox, person, options.absolute(client), "paste" if paste else "browser")
    session.result({"signed_in": "gmail"}, lambda: print("signed in for sending mail; try it: backup email test"))
