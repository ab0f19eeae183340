"""`backup sync`: bring every destination level."""

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb()
def sync(session: Session, limit_upload: options.LimitUpload = None) -> int:
    """Copy to every destination what it lacks of what the first one has. Nothing is removed.

    backup sync
    """
    from backup_tool.actions.sync import sync as carry_out
    from backup_tool.destinations.delivery import Delivery
    from backup_tool.errors import UsageError

    session.limit_upload(limit_upload)
    delivery = session.delivery
    if not isinstance(delivery, Delivery):
        raise UsageError("there is one destination only: nothing to bring level", "name further ones in the settings: configs/full.toml")
    session.place(delivery)
    done, code = carry_out(delivery, session.password(), session.state, session.progress)

    def text() -> None:
        for one in done.destinations:
            if one.error is not None:
                print(f"{one.name}: {one.status}")
            elif one.objects:
                print(f"{one.name}: level, {console.count(one.objects, 'object')} copied, {console.size(one.bytes)}")
            else:
                print(f"{one.name}: level already")

    session.result(done, text)
    for one in done.destinations:
        if one.error is not None:
            session.progress.warn(console.undelivered(one.name, one.status, one.error))
    return code
