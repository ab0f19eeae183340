"""`backup init`: create a repository, and its mirrors."""

from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb()
def init(session: Session) -> None:
    """Create an encrypted archive. Without the password nobody can ever open it again: keep it in two places.

    backup init --repo /mnt/usb/voice-notes --password-file ~/.config/backup-tool/password
    backup init                     (wherever the settings file says and none is: the first destination, the others as its mirrors)
    """
    from backup_tool.actions.init import init as carry_out
    from backup_tool.actions.init import refuse_second, refuse_taken

    configured = list(session.settings.destinations.values())
    primary, *mirrors = session.specs
    if primary in configured[1:]:
        primary, mirrors = configured[0], [primary]
    first = session.place_of(primary).destination
    others = [session.place_of(mirror).destination for mirror in mirrors]
    created = not (mirrors and first.exists())
    if created:
        refuse_taken(first)  # before anybody thinks of a password
        if primary in configured:
            refuse_second(primary.name, {spec.name: session.place_of(spec).destination for spec in configured if spec is not primary})
    made = carry_out(first, others, session.password(new=created), session.state, host=session.host, create=created)

    def text() -> None:
        if created:
            print(f"created repository {made.id[:8]} at {made.repository}")
        for mirror in made.mirrors:
            print(f"made {mirror} a mirror of it" if created else f"made {mirror} a mirror of {made.repository}")

    session.result(made, text)
    if created:
        session.note("keep the password safe: without it nobody, not even you, can open this archive")
