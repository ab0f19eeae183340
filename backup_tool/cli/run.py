"""`backup run`: the nightly job."""

from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.ending import kept
from backup_tool.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup_tool.actions.deliver import Delivered
    from backup_tool.actions.run import RunPlan, RunResult


@verb()
def run(
    session: Session,
    sources: options.Sources = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="SOURCE", help="The same as SOURCE, as an option. Repeatable.")
    ] = None,
    key_file: options.KeyFile = None,
    limit_upload: options.LimitUpload = None,
) -> int:
    """Archive what is new. Notes that are gone from the phone stay in the archive.

    backup run ~/phone/WhatsApp --repo /mnt/usb/voice-notes
    backup run                      (everything in the settings file, to every destination)
    """
    from backup_tool.actions.run import run as carry_out

    session.limit_upload(limit_upload)
    chosen = session.chosen([*(sources or []), *(source or [])])
    with kept(session, [spec.name for spec in chosen.sources]) as told:
        plan = plan_of(session)
        plan.sources, plan.typed, plan.unlock = chosen.sources, chosen.typed, session.keys(key_file)
        done, told.code = carry_out(plan, session.progress)
        told.line, told.errors, told.sources, told.places = closing_line(done), done.errors, done.sources, done.destinations
    console.problems(done.errors)
    session.result(done, lambda: print(told.line))
    tell_undelivered(session, done.destinations)
    tell_days_left(session, {one.name for one in done.destinations if one.status == "delivered"})
    if session.settings.retention:
        session.progress.warn("[retention] is not applied by this version: no snapshot is forgotten")
    return told.code


def closing_line(done: "RunResult") -> str:
    """What a run came to, in one line."""
    told = [f"{console.count(done.new, 'new note')}", f"{done.unchanged:,} unchanged"]
    parts = [f"{number:,} {what}" for what, number in (("not downloaded", done.not_downloaded), ("omitted", done.omitted)) if number]
    missing = "missing" + (f" ({', '.join(parts)})" if parts else "")
    told += [
        f"{number:,} {what}"
        for what, number in (("gone from the phone", done.gone), (missing, done.missing), ("orphan", done.orphan))
        if number
    ]
    told += [f"{number:,} {what}" for what, number in (("damaged", done.damaged), ("unreadable", done.unreadable)) if number]
    return f"{', '.join(told)}; {console.size(done.bytes_added)} added, snapshot {done.snapshot[:8]}, {done.seconds:.1f} s"


def tell_days_left(session: Session, reached: set[str]) -> None:
    """For how long the sign-ins last. Of a place that was not reached it may be wrong: Apple ends a sign-in when it likes."""
    from backup_tool.destinations import days_left

    for spec in session.specs:
        if spec.name in reached and (left := days_left(spec, session.state.home(spec.label))) is not None:
            days = console.count(max(1, round(left)), "day")
            session.note(f"{console.one_line(spec.name)}: about {days} left until somebody has to sign in again")


def tell_undelivered(session: Session, destinations: "Sequence[Delivered]") -> None:
    """Name the destinations that a new snapshot did not arrive at."""
    for one in destinations:
        if one.error is not None:
            session.progress.warn(console.undelivered(one.name, one.status, one.error))


def plan_of(session: Session) -> "RunPlan":
    """What every verb that writes a snapshot starts from: where to, under which name, with which settings; no sources yet."""
    from backup_tool.actions.run import RunPlan

    settings = session.settings.repository
    return RunPlan(
        sources=[],
        typed=set(),
        known_names=set(session.settings.sources) | session.state.names_in_use(spec.path for spec in session.settings.sources.values()),
        destination=session.place(session.delivery),
        destination_name=session.spec.name,
        password=session.password(),
        state=session.state,
        host=session.host,
        pack_size=settings.pack_size,
        verify_writes=settings.verify_writes,
    )
