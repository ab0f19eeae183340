"""Words on a terminal: tables, sizes, times, errors, progress bars, and JSON on stdout. Outside text is always escaped here."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backup_tool.errors import BackupError, Interrupted, SignalledToEnd, SignInNeeded, UsageError
from backup_tool.models import Note, Problem, Progress, Secret
from backup_tool.names import in_bytes, shown

if TYPE_CHECKING:
    from backup_tool.sources.base import KeyKind


def prepare() -> None:
    """Output never fails for a character that the terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def is_interactive() -> bool:
    """True where a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_password(label: str, *, twice: bool) -> Secret:
    """Ask for the password; a new one twice."""
    first = _typed(f"password for {shown(label)}: ")
    if twice and _typed("the same again: ") != first:
        raise UsageError("the two passwords differ", "type the command again")
    return Secret(first)


def ask_key(name: str, kind: KeyKind) -> Secret:
    """Ask for the key or password of a source."""
    what = {"key": "64-digit key of WhatsApp's encrypted backup", "password": "password of the encrypted device backup"}[kind]
    return Secret(_typed(f"{what} for {shown(name)} (Enter to go on without): "))


def _typed(question: str) -> str:
    import getpass

    try:
        return getpass.getpass(question, sys.stderr)
    except SignalledToEnd:
        raise
    except (KeyboardInterrupt, EOFError):
        print(file=sys.stderr)
        raise Interrupted("interrupted", "nothing was done") from None


class Terminal:
    """The person at the terminal, if there is one (`Person` of destinations)."""

    def ask(self, question: str) -> str:
        """What is typed. Raises SignInNeeded without a terminal."""
        _need_terminal()
        print(shown(question), end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except SignalledToEnd:
            raise
        except KeyboardInterrupt:
            line = ""
        if not line:
            print(file=sys.stderr)
            raise Interrupted("interrupted", "nothing was done")
        return line.strip()

    def ask_secret(self, question: str) -> Secret:
        """`ask`, unseen."""
        _need_terminal()
        return Secret(_typed(shown(question)))

    def tell(self, text: str) -> None:
        """A line to read."""
        print(shown(text, 4000), file=sys.stderr, flush=True)

    def open(self, url: str) -> None:
        """Show a page in a browser where this machine has a screen."""
        import webbrowser

        on_screen = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
        if on_screen:
            with contextlib.suppress(webbrowser.Error, OSError):
                webbrowser.open(url)


class Scripted(Terminal):
    """The lines of standard input in a person's stead."""

    def ask(self, question: str) -> str:
        """The next line. Raises SignInNeeded where there is none."""
        line = sys.stdin.readline()
        if not line:
            raise SignInNeeded(f"standard input ends where this is asked: {one_line(question)}", "add a line to it")
        return line.strip()

    def ask_secret(self, question: str) -> Secret:
        """The next line, as it is but for its end."""
        line = sys.stdin.readline()
        if not line:
            raise SignInNeeded(f"standard input ends where this is asked: {one_line(question)}", "add a line to it")
        return Secret(line.removesuffix("\n").removesuffix("\r"))


def _need_terminal() -> None:
    if not is_interactive():
        raise SignInNeeded("signing in needs somebody at a terminal", "type the same command in a terminal")


def confirm(question: str) -> bool:
    """Ask yes or no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def quoted(text: str) -> str:
    """For a command to type: safe in a shell, safe on a terminal."""
    return shlex.quote(shown(text, 1000))


def one_line(text: str) -> str:
    """Text on one line, cut."""
    return shown(" ".join(text.split()))


def tell_error(error: BackupError, *, as_json: bool) -> None:
    """`error: …` and `hint: …` on stderr; with `as_json` one JSON document on stdout besides."""
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    if as_json:
        print_json({"error": {"code": error.exit_code, "message": error.message, "hint": error.hint}})


def tell_usage(error: Exception, *, as_json: bool) -> int:
    """What could not be parsed, in the same form; the exit code."""
    message = getattr(error, "format_message", lambda: str(error))()
    if not message:
        return int(getattr(error, "exit_code", 0))
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return UsageError.exit_code
    context = getattr(error, "ctx", None)
    hint = f"see: {context.command_path} --help" if context is not None else ""
    told = UsageError(one_line(message).rstrip(".").replace("No such", "no such"), hint)
    tell_error(told, as_json=as_json)
    return told.exit_code


def print_json(value: Any) -> None:
    """One JSON document on stdout, whole or not at all. Iterables other than lists are written as arrays without holding their items."""
    import msgspec

    encoder = msgspec.json.Encoder()
    if isinstance(value, (dict, list, str, int, float)) or value is None or not isinstance(value, Iterable):
        out: bytes | bytearray = encoder.encode(value)
    else:
        buffer = bytearray(b"[")
        for item in value:
            buffer += (b"" if len(buffer) == 1 else b",\n") + encoder.encode(item)
        buffer += b"]"
        out = buffer
    sys.stdout.flush()
    sys.stdout.buffer.write(out)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


# --- numbers and tables -----------------------------------------------------------------------------------------------------------------


def size(count: int | None) -> str:
    """Bytes for people: 999 B, 12.3 KB, 4.0 GB (powers of 1000)."""
    return "?" if count is None else in_bytes(count)


def length(seconds: float | None) -> str:
    """A duration for people: 0:07, 12:30, 3:05:00."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def when(note: Note) -> str:
    """The moment a note was sent, in local time; only the day where only the day is known."""
    if not note.sent_at:
        return "unknown"
    return local(note.sent_at, day=note.known_by_day)


def local(text: str | None, *, day: bool = False) -> str:
    """An RFC 3339 time as local time, to the minute; with `day` only the day of it is known, and is the same in every zone."""
    if not text:
        return "-"
    if day:
        return shown(text[:10])
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return shown(text)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 note`, `3 notes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def unsent(number: int, folder: Path) -> str:
    """That so many mails could not be sent, and where their drafts are."""
    return f"{count(number, 'draft')} of mails that could not be sent {'is' if number == 1 else 'are'} kept in {shown(str(folder), 1000)}"


def table(
    rows: Sequence[Sequence[str]], head: Sequence[str], right: frozenset[int] | set[int] = frozenset(), *, with_head: bool = True
) -> None:
    """Columns on stdout, as wide as their widest cell; every cell is escaped. `right` are the columns of numbers."""
    cells = [list(head), *([shown(cell, 60) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells if with_head else cells[1:]:
        line = "  ".join(
            cell.rjust(width) if n in right else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print(line.rstrip())


def problems(items: Sequence[Problem], *, most: int = 20) -> None:
    """What was left out, on stderr, a line each."""
    for item in items[:most]:
        print(f"  {shown(item.path)}: {shown(item.reason)}", file=sys.stderr)
    if len(items) > most:
        print(f"  … and {len(items) - most} more (--json names them all)", file=sys.stderr)


def undelivered(name: str, status: str, error: str) -> str:
    """That a destination does not have everything."""
    return f"{name}: {error}" + ("; what it lacks is kept for it and delivered by the next run" if status == "queued" else "")


# --- progress -----------------------------------------------------------------------------------------------------------------------------


def progress(*, quiet: bool, verbose: bool) -> Progress:
    """The progress object for this terminal."""
    bars = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return _Bars(verbose) if bars else _Lines(verbose)


class _Lines(Progress):
    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose

    def warn(self, text: str) -> None:
        self._print(f"warning: {shown(text, 1000)}")

    def tell(self, text: str) -> None:
        if self._verbose:
            self._print(shown(text, 1000))

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr)


class _Bars(_Lines):
    _bar: Any = None

    def begin(self, what: str, total: int | None = None, unit: str = "notes") -> None:
        from tqdm import tqdm

        self.end()
        self._bar = tqdm(
            desc=shown(what),
            total=total,
            unit="B" if unit == "bytes" else f" {unit}",
            unit_scale=unit == "bytes",
            leave=False,
            file=sys.stderr,
        )

    def step(self, amount: int = 1) -> None:
        if self._bar is not None:
            self._bar.update(amount)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, text: str) -> None:
        if self._bar is None:
            super()._print(text)
        else:
            self._bar.write(text, file=sys.stderr)
