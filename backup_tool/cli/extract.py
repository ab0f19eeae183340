"""`backup extract`: single notes, as files, as a draft, or by mail."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.errors import UsageError
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.extract import Mailing
    from backup_tool.actions.restored import Restored


@verb()
def extract(
    session: Session,
    notes: Annotated[list[str], typer.Argument(metavar="NOTE...", help="The first 4 or more digits of its id, or latest.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FILE", help="File or folder to write to, or - for stdout. Named after the note by default."),
    ] = None,
    eml: Annotated[
        Path | None, typer.Option("--eml", metavar="FILE", help="Write a mail draft with the notes attached (- for stdout).")
    ] = None,
    email: Annotated[
        list[str] | None, typer.Option("--email", metavar="ADDRESS", help="Send the notes by mail to this address. Repeatable.")
    ] = None,
    chat: options.ChatOption = None,
    sender: options.Sender = None,
    since: options.Since = None,
    until: options.Until = None,
    kind: options.Kind = None,
    source: options.SourceOption = None,
    snapshot: options.SnapshotOption = None,
    format_: options.Format = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name that holds something else.")] = False,
) -> int:
    """Take notes out: as files, to stdout, as a mail draft, or by mail (attached as MP3, unless --format says otherwise).

    backup extract 3f9a1c --to note.opus
    backup extract latest --chat family --email anna@example.org
    """
    from backup_tool.actions.extract import extract as take_out
    from backup_tool.actions.find import Wanted
    from backup_tool.config import MAIL_SIZE

    to, eml = _dash(to), Path(_dash(str(eml)) or "") if eml else None
    if "-" in (to, str(eml)) and session.common.json:
        raise UsageError("--json and - both want stdout", "give --to and --eml file names")
    if to == str(eml) == "-":
        raise UsageError("--to - and --eml - both want stdout", "give one of them a file name")
    stdout = sys.stdout.buffer if "-" in (to, str(eml)) else None
    mailing = _mailing(session, email) if email else None
    done = take_out(
        session.archive(snapshot),
        notes,
        Wanted(chat=chat or [], sender=sender or [], since=since, until=until, kind=kind, source=source or []),
        to=options.home(to),
        eml=Path(options.home(str(eml)) or "") if eml else None,
        mailing=mailing,
        format=format_,
        overwrite=overwrite,
        stdout=stdout,
        mail_size=session.settings.email.max_size if session.settings.email else MAIL_SIZE,
    )
    session.result(done.document, lambda: _tell(done, to_stderr=stdout is not None))
    console.problems(done.errors)
    if done.unsent:
        session.note(console.unsent(done.unsent, session.state.unsent))
    return done.exit_code


def _dash(path: str | None) -> str | None:
    """What was typed, but - for /dev/stdout and its like: what is said of the result then goes elsewhere."""
    with contextlib.suppress(OSError):
        if path and path.startswith(("/dev/", "/proc/")) and os.path.samestat(os.stat(path), os.fstat(1)):
            return "-"
    return path


def _mailing(session: Session, addresses: list[str]) -> Mailing:
    from backup_tool.actions.extract import Mailing
    from backup_tool.actions.mail import find_mailbox
    from backup_tool.exporters.email import address

    to = {one.addr_spec: one for one in map(address, addresses)}
    return Mailing(list(to.values()), find_mailbox(session.settings, os.environ, session.state))


def _tell(done: Restored, *, to_stderr: bool) -> None:
    out = sys.stderr if to_stderr else sys.stdout
    for path in dict.fromkeys(file.path for file in done.files if file.path != "-"):
        print(f"wrote {shown(path, 1000)}", file=out)
    for mail in done.mails:
        if mail.to:
            print(
                f"mailed {console.count(len(mail.notes), 'note')}, {console.size(mail.bytes)}, to {', '.join(map(shown, mail.to))}",
                file=out,
            )
        if mail.draft:
            print(f"a draft for those who were refused is kept, not encrypted: {shown(mail.draft, 1000)}", file=out)
