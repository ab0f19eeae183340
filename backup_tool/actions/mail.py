"""Send notes by mail, or write them as drafts: attached as MP3 unless told otherwise, over as many mails as they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.headerregistry import Address
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backup_tool.actions.archive import Archive, read_note
from backup_tool.actions.converting import Scratch, made, pieces, size_of
from backup_tool.actions.restored import Restored, SentMail
from backup_tool.actions.state import State
from backup_tool.actions.unsent import Unsent
from backup_tool.audio.convert import Format
from backup_tool.catalog import Entry, name_worth
from backup_tool.config import EmailSettings, Settings
from backup_tool.credentials import configured_password
from backup_tool.destinations.base import Person
from backup_tool.errors import BackupError, ConfigError, IntegrityError, Interrupted, Terminated, UsageError
from backup_tool.exporters.email import Attachment, Batch, address, attachment_name, batches, draft, message, room, trial
from backup_tool.exporters.naming import file_suffix
from backup_tool.exporters.words import tags_of
from backup_tool.models import Note, Problem
from backup_tool.names import in_bytes, shown

if TYPE_CHECKING:
    from backup_tool.exporters.sending import Sender

_A_NAME = name_worth("~Anna")
"""What stands in for a name, a telephone number above all, is worth less."""


class Trial(msgspec.Struct):
    """What a test of the mail settings found. `unsent` counts the drafts of earlier mails that could not be sent."""

    to: str
    host: str
    port: int
    security: str
    max_size: int
    via: str
    unsent: int


class Mailbox:
    """Where mails go: the way to send, the address they come from, and what this machine keeps of those that could not be sent."""

    def __init__(self, settings: EmailSettings, env: Mapping[str, str], state: State) -> None:
        self.settings, self.state = settings, state
        self.sender = address(settings.sender)
        self._env = env

    def open(self) -> Sender:
        """The way to send. Asks for the password where the settings say it is. Raises as `credentials` does."""
        if self.settings.via == "gmail":
            from backup_tool.exporters.gmail import open_gmail

            return open_gmail(self.settings, self.state.google_mail)
        from backup_tool.exporters.sending import SmtpSender

        return SmtpSender(self.settings, self.sender, configured_password(msgspec.structs.asdict(self.settings), self._env))


def find_mailbox(settings: Settings, env: Mapping[str, str], state: State) -> Mailbox:
    """The mailbox of the settings. Raises ConfigError where they name none, UsageError where its address is none."""
    if settings.email is None:
        raise ConfigError(
            "the settings name no mail server",
            'write [email] with from, and host or via = "gmail" (configs/full.toml), or make a draft for your mail program: --eml note.eml',
        )
    return Mailbox(settings.email, env, state)


def sign_in_to_mail(settings: Settings, mailbox: Mailbox, person: Person, client: Path | None, mode: str) -> None:
    """Sign in to Google for sending mail, with the client in a file, else with the one of before, else with that of a destination in Google
    Drive. Raises UsageError where the settings do not send through Google or there is no client, and SignInNeeded where it was refused."""
    if mailbox.settings.via != "gmail":
        raise UsageError("mail is sent by SMTP, which needs no sign-in here", 'to send through Google, write via = "gmail" under [email]')
    from backup_tool.destinations.gdrive import signed_in
    from backup_tool.exporters.gmail import sign_in

    drives = (spec for spec in settings.destinations.values() if spec.type == "gdrive")
    other = next((kept for spec in drives if (kept := signed_in(spec, mailbox.state.home(spec.label)))), None)
    account = mailbox.sender.addr_spec
    sign_in(mailbox.settings, account, mailbox.state.google_mail, person, client=client, mode=mode, other=other)


def send_trial(mailbox: Mailbox, to: str | None) -> Trial:
    """Send a short mail to `to`, or to the address it comes from. Raises what goes wrong."""
    settings, receiver = mailbox.settings, mailbox.sender if to is None else address(to)
    with mailbox.open() as sender:
        limit = sender.limit()
        for reason in sender.send(trial(mailbox.sender, receiver), [receiver]).values():
            raise BackupError(f"the mail server refused {shown(receiver.addr_spec)}: {reason}", "look at the address")
    where = (settings.host, settings.port, settings.security)
    if settings.via == "gmail":
        from backup_tool.exporters.gmail import HOST

        where = (HOST, 443, "tls")
    return Trial(receiver.addr_spec, *where, limit, settings.via, Unsent(mailbox.state).waiting())


def mail(archive: Archive, items: Sequence[Entry], to: Sequence[Address], format: Format | None, mailbox: Mailbox, done: Restored) -> None:
    """Send these notes to all of `to`; what became of it is in `done.mails`.

    A mail that cannot be sent is kept as a draft in the mailbox's folder. Raises what went wrong where nothing was sent at all, with the
    draft's place in its hint.
    """
    with mailbox.open() as sender, Unsent(mailbox.state) as unsent:
        limit, failed = mailbox.settings.max_size, None
        try:
            limit = sender.limit()
        except (Interrupted, Terminated):
            raise
        except BackupError as error:
            failed = error
        waiting = batches(_attachments(archive, items, format, unsent.scratch, limit, done), limit)
        if failed is not None:
            _keep_all(failed, waiting, to, unsent, done)
        for batch in waiting:
            data = message(batch.attachments, sender=mailbox.sender, to=to, part=batch.part)
            try:
                refused = sender.send(data, to)
            except (Interrupted, Terminated):
                raise
            except BackupError as error:
                _keep_all(error, chain([batch], waiting), to, unsent, done)
                break
            _note_sent(batch, data, to, refused, unsent, done)
        done.unsent = unsent.waiting()


def _note_sent(batch: Batch, data: bytes, to: Sequence[Address], refused: Mapping[str, str], unsent: Unsent, done: Restored) -> None:
    problems = [Problem(spec, f"the mail server refused it: {reason}") for spec, reason in refused.items()]
    sent = SentMail(
        [one.addr_spec for one in to if one.addr_spec not in refused], problems, [note.id or "" for note in _notes(batch)], len(data)
    )
    done.mails.append(sent)
    unsent.delivered(sent.notes, sent.to)
    for problem in problems:
        done.left_out(problem, 3)
    if refused:
        sent.draft = unsent.keep(batch, [one for one in to if one.addr_spec in refused])
        if not sent.to:
            done.codes.add(1)
    if sent.to:
        for note in _notes(batch):
            done.gave(note)


def _keep_all(failed: BackupError, batches: Iterable[Batch], to: Sequence[Address], unsent: Unsent, done: Restored) -> None:
    """Drafts of all that could not be sent; raises `failed` where nothing was."""
    kept = [unsent.keep(batch, to) for batch in batches]
    where = shown(kept[0], 1000) if len(kept) == 1 else f"{shown(str(unsent.path), 1000)} ({len(kept)} mails)"
    if not done.mails:
        raise type(failed)(
            failed.message, f"{failed.hint}; what was to be sent is kept, not encrypted: {where}".removeprefix("; ")
        ) from None
    for path in kept:
        done.left_out(Problem(path, f"not sent, kept as a draft: {failed.message}"), failed.exit_code)


def _notes(batch: Batch) -> list[Note]:
    return [one.note for one in batch.attachments]


# --- drafts and attachments -------------------------------------------------------------------------------------------------------------


def drafts(
    archive: Archive, items: Sequence[Entry], format: Format | None, scratch: Scratch, limit: int, done: Restored
) -> Iterator[tuple[Batch, bytes]]:
    """Drafts of mails with these notes, as many as they need."""
    for batch in batches(_attachments(archive, items, format, scratch, limit, done), limit):
        yield batch, draft(batch.attachments, part=batch.part)


def _attachments(
    archive: Archive, items: Iterable[Entry], format: Format | None, scratch: Scratch, limit: int, done: Restored
) -> Iterator[Attachment]:
    """One after the other; what cannot be attached is named in `done`."""
    for item in map(_without_numbers, items):
        name = attachment_name(item, None, file_suffix(item))
        try:
            attachment, reason = _attachment(archive, item, format, scratch, room(limit))
        except IntegrityError as damaged:
            done.left_out(Problem(name, damaged.message), damaged.exit_code)
            continue
        if reason:
            done.left_out(Problem(name, reason), 3)
        if attachment:
            yield attachment


def _without_numbers(item: Entry) -> Entry:
    """The note as a mail may tell of it: who is known by a telephone number alone is not named."""
    names = {"sender": item.sender, "chat": item.chat}
    return msgspec.structs.replace(item, **{key: None if 0 < name_worth(name) < _A_NAME else name for key, name in names.items()})


def _attachment(archive: Archive, item: Entry, format: Format | None, scratch: Scratch, most: int) -> tuple[Attachment | None, str | None]:
    chunks, size = read_note(archive.repository, item), item.size or 0
    too_large = f"it is larger than a mail may be ({in_bytes(most)}): take it out as a file, with --to FILE"
    if format is None:
        return (None, too_large) if size > most else (Attachment(item, b"".join(chunks), file_suffix(item)), None)
    with made(scratch, chunks, format, tags_of(item)) as (whole, copy, reason):
        if copy is not None and size_of(copy) > most >= size:
            copy, reason = None, f"attached as it is: its {format} is larger than a mail may be"
        chosen, suffix = (whole, file_suffix(item)) if copy is None else (copy, f".{format}")
        if size_of(chosen) > most:
            return None, too_large
        return Attachment(item, b"".join(pieces(chosen)), suffix), reason
