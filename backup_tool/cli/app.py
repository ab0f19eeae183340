"""The command `backup`: its verbs, the options they share, and how every one of them ends.

Heavy libraries are imported inside the verbs, so that `backup --help` answers at once.
"""

from __future__ import annotations

import errno
import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn, get_type_hints

import typer

from backup_tool import __version__
from backup_tool.cli import console
from backup_tool.cli.session import Common, Session
from backup_tool.errors import BackupError, Interrupted, NoSpace, SignalledToEnd, Terminated

app = typer.Typer(
    name="backup",
    help="Keep voice notes in encrypted archives, and give any single one back.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

_SHARED: dict[str, Any] = {
    "config": Annotated[str | None, typer.Option("--config", metavar="FILE", help="Settings file.", show_default=False)],
    "json": Annotated[bool, typer.Option("--json", help="Print one JSON document.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and the result.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="More details.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show where an error came from.")],
}
_OF_REPOSITORY: dict[str, Any] = {
    "repo": Annotated[str | None, typer.Option("--repo", "-r", metavar="PLACE", help="Where the archive is: a configured name or a path.")],
    "password_file": Annotated[str | None, typer.Option("--password-file", metavar="FILE", help="File that holds the password.")],
    "password_command": Annotated[
        str | None, typer.Option("--password-command", metavar="COMMAND", help="Command that prints the password.")
    ],
    "no_cache": Annotated[bool, typer.Option("--no-cache", help="Keep and use no copies of index and catalogs on this machine.")],
}


def verb(
    group: typer.Typer = app, name: str | None = None, *, repository: bool = True
) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Make a command of a function `(session, **own options) -> exit code or None`, with the shared options behind its own.

    The function may raise any BackupError: it is told in one line, with its exit code.
    """
    shared = {**(_OF_REPOSITORY if repository else {}), **_SHARED}

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        own = [p.replace(annotation=hints[p.name]) for p in list(inspect.signature(function).parameters.values())[1:]]
        more = [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False if hint.__origin__ is bool else None, annotation=hint)
            for n, hint in shared.items()
        ]
        keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]

        def call(**given: Any) -> None:
            common = Common(**{n: given.pop(n) for n in shared})
            raise SystemExit(_carry_out(Session(common), function, given))

        call.__signature__ = inspect.Signature(keyword_only + more)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in keyword_only + more}
        call.__doc__ = function.__doc__
        group.command(name or function.__name__.rstrip("_"))(call)
        return call

    return register


def _carry_out(session: Session, function: Callable[..., int | None], given: dict[str, Any]) -> int:
    try:
        with session:
            return function(session, **given) or 0
    except BackupError as error:
        return _tell(session, error)
    except KeyboardInterrupt as stop:
        return _tell(session, _ended_by(stop))
    except BrokenPipeError:
        # Whoever read our output has gone (`backup list | head`): nothing to tell, and nobody to tell it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if session.common.debug:
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            return _tell(session, NoSpace("there is no space left where the output goes", "make room, then run it again"))
        return _tell(
            session,
            BackupError(
                f"unexpected {type(error).__name__}: {console.one_line(str(error))}", "run it again with --debug and report what it prints"
            ),
        )


def _tell(session: Session, error: BackupError) -> int:
    if session.common.debug and not isinstance(error, (Interrupted, Terminated)):
        import traceback

        traceback.print_exception(error)
    console.tell_error(error, as_json=session.common.json and not session.printed)
    return error.exit_code


def _on_terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    # A second signal must not break the tidying up of the first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SignalledToEnd


def _ended_by(stop: KeyboardInterrupt) -> BackupError:
    hint = "what had arrived stays; the next run goes on from there"
    return Terminated("terminated", hint) if isinstance(stop, SignalledToEnd) else Interrupted("interrupted", hint)


def _version(wanted: bool) -> None:
    if wanted:
        import platform
        import sqlite3

        print(f"backup {__version__} (Python {platform.python_version()}, SQLite {sqlite3.sqlite_version})")
        raise typer.Exit


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    pass


def main() -> NoReturn:
    """Parse what was typed, carry it out, and end with its exit code."""
    os.umask(0o077)
    # Records are many and have no cycles: the collector would go over them again and again for nothing.
    gc.set_threshold(200_000)
    try:
        signal.signal(signal.SIGTERM, _on_terminate)
        raise SystemExit(_parse_and_carry_out())
    except SystemExit:
        raise
    except SignalledToEnd as stop:
        console.tell_error(error := _ended_by(stop), as_json=False)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(Interrupted.exit_code) from None
    except Exception as error:
        raise SystemExit(console.tell_usage(error, as_json="--json" in sys.argv)) from None


def _parse_and_carry_out() -> int:
    from backup_tool.cli import verbs

    verbs.load(sys.argv[1] if len(sys.argv) > 1 else None)
    console.prepare()
    code = typer.main.get_command(app).main(sys.argv[1:], prog_name="backup", standalone_mode=False)
    return code if isinstance(code, int) else 0
