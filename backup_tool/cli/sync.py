"""`backup sync`: bring every destination level."""

from typing import Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.ending import kept
from backup_tool.cli.run import tell_undelivered
from backup_tool.cli.session import Session


@verb()
def sync(
    session: Session,
    limit_upload: options.LimitUpload = None,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove from mirrors what was pruned at the primary.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="With --prune: show what would be removed; remove nothing.")] = False,
) -> int:
    """Copy to every destination what it lacks of what the first one has. Without --prune nothing is removed.

    backup sync
    """
    from backup_tool.actions.sync import sync as carry_out
    from backup_tool.destinations.several.delivery import Delivery
    from backup_tool.errors import UsageError

    if dry_run and not prune:
        raise UsageError("--dry-run shows what --prune would remove", "type: backup sync --prune --dry-run")
    session.read_around_cache()
    session.limit_upload(limit_upload)
    delivery = session.delivery
    if not isinstance(delivery, Delivery):
        raise UsageError("there is one destination only: nothing to bring level", "name further ones in the settings: configs/full.toml")
    with kept(session) as told:
        session.place(delivery)
        done, code = carry_out(delivery, session.password(), session.state, session.progress, prune=prune, dry_run=dry_run)
        told.places = done.destinations

    def text() -> None:
        for one in done.destinations:
            if one.error is not None:
                print(f"{one.name}: {one.status}")
            elif one.objects:
                print(f"{one.name}: level, {console.count(one.objects, 'object')} copied, {console.size(one.bytes)}")
            else:
                print(f"{one.name}: level already")
        for gone in done.removed:
            would = "would be " if dry_run else ""
            print(f"{gone.name}: {console.count(gone.objects, 'object')} {would}removed, {console.size(gone.bytes)}")

    session.result(done, text)
    tell_undelivered(session, done.destinations)
    return code
