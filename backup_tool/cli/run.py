"""`backup run`: the nightly job."""

from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup_tool.actions.deliver import Delivered
    from backup_tool.actions.run import RunPlan


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
    from backup_tool.destinations import days_left

    session.limit_upload(limit_upload)
    chosen = session.chosen([*(sources or []), *(source or [])])
    plan = plan_of(session)
    plan.sources, plan.typed, plan.unlock = chosen.sources, chosen.typed, session.keys(key_file)
    done, code = carry_out(plan, session.progress)
    console.problems(done.errors)
    told = [f"{console.count(done.new, 'new note')}", f"{done.unchanged:,} unchanged"]
    parts = [f"{number:,} {what}" for what, number in (("not downloaded", done.not_downloaded), ("omitted", done.omitted)) if number]
    missing = "missing" + (f" ({', '.join(parts)})" if parts else "")
    told += [
        f"{number:,} {what}"
        for what, number in (("gone from the phone", done.gone), (missing, done.missing), ("orphan", done.orphan))
        if number
    ]
    told += [f"{number:,} {what}" for what, number in (("damaged", done.damaged), ("unreadable", done.unreadable)) if number]
    line = f"{', '.join(told)}; {console.size(done.bytes_added)} added, snapshot {done.snapshot[:8]}, {done.seconds:.1f} s"
    session.result(done, lambda: print(line))
    tell_undelivered(session, done.destinations)
    reached = {one.name for one in done.destinations if one.status == "delivered"}
    for spec in session.specs:  # of a place that was not reached it may be wrong: Apple ends a sign-in when it likes
        if spec.name in reached and (left := days_left(spec, session.state.home(spec.label))) is not None:
            days = console.count(max(1, round(left)), "day")
            session.note(f"{console.one_line(spec.name)}: about {days} left until somebody has to sign in again")
    if session.settings.retention:
        session.progress.warn("[retention] is not applied by this version: no snapshot is forgotten")
    return code


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
