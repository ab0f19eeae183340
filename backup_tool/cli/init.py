"""`backup init`: create a repository."""

from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb()
def init(session: Session) -> None:
    """Create an encrypted archive. Without the password nobody can ever open it again: keep it in two places.

    backup init --repo /mnt/usb/voice-notes --password-file ~/.config/backup-tool/password
    """
    from backup_tool.actions.init import init as create
    from backup_tool.actions.init import refuse_taken

    refuse_taken(session.destination)  # before anybody thinks of a password
    made = create(session.destination, session.password(new=True), host=session.host)
    session.result(made, lambda: print(f"created repository {made['id'][:8]} at {made['repository']}"))
    session.note("keep the password safe: without it nobody, not even you, can open this archive")
