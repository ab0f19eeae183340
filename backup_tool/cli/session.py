"""What every verb starts from: the shared options, the settings, the password, an open archive, and one way to print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backup_tool.cli import console
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.archive import Archive
    from backup_tool.actions.choose import Chosen
    from backup_tool.actions.state import State
    from backup_tool.config import DestinationSpec, Settings, SourceSpec
    from backup_tool.destinations.base import Destination
    from backup_tool.destinations.limits import UploadLimit
    from backup_tool.destinations.several.reading import Place
    from backup_tool.errors import BackupError
    from backup_tool.models import Progress, Secret
    from backup_tool.repository import Repository
    from backup_tool.sources.base import Unlock


@dataclass
class Common:
    """The shared options as typed."""

    repo: str | None = None
    password_file: str | None = None
    password_command: str | None = None
    config: str | None = None
    no_cache: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False


class Session:
    """One carrying out of one verb."""

    def __init__(self, common: Common) -> None:
        self.common = common
        self.printed = False
        self._limit: UploadLimit | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        trouble = self.state.trouble if "state" in self.__dict__ else None
        if trouble is not None:
            self.note(f"warning: what one run tells the next could not be kept: {trouble.message}")

    @cached_property
    def settings(self) -> Settings:
        """The settings file, or empty settings where there is none."""
        from backup_tool.config import load_settings

        return load_settings(Path(self.common.config) if self.common.config else None, os.environ)

    @cached_property
    def state(self) -> State:
        """The state directory."""
        from backup_tool.actions.state import State
        from backup_tool.config import state_dir

        return State(state_dir(os.environ))

    @cached_property
    def spec(self) -> DestinationSpec:
        """The destination that was meant, the first of several. Raises UsageError with the command to type where none was."""
        return self.specs[0]

    @cached_property
    def specs(self) -> tuple[DestinationSpec, ...]:
        """Every destination that is meant, the primary first: a typed one alone, else all that are configured."""
        from backup_tool.config import resolve_destinations

        return resolve_destinations(self.common.repo, os.environ, self.settings)

    @cached_property
    def destination(self) -> Destination:
        """The place itself, or all of them, for reading: what the first cannot give comes from another."""
        from backup_tool.actions.open_places import open_for_reading

        return open_for_reading([*map(self.place_of, self.specs)], self.state, self.progress)

    @cached_property
    def delivery(self) -> Destination:
        """The place itself, or all of them, for a run to deliver to."""
        from backup_tool.actions.open_places import open_for_delivery

        spool_size = self.settings.repository.spool_size
        delivery = open_for_delivery([*map(self.place_of, self.specs)], self.state, self.progress, spool_size, self._cache)
        self._stack.callback(delivery.close)
        return delivery

    def place_of(self, spec: DestinationSpec) -> Place:
        """One destination by itself."""
        from backup_tool.destinations import open_destination
        from backup_tool.destinations.several.reading import Place

        destination = open_destination(
            spec,
            limit=self._limit,
            home=self.state.home(spec.label),
            cache=self._cache,
            tell=self.progress.tell,
        )
        self._stack.callback(destination.close)
        return Place(spec.name, destination)

    def label_of(self, spec: DestinationSpec) -> str:
        """The label of a destination as it gives it itself: by that it is remembered."""
        from backup_tool.destinations import label_of
        from backup_tool.errors import BackupError

        try:
            return label_of(spec)
        except BackupError:
            return spec.label

    @property
    def _cache(self) -> Path | None:
        from backup_tool.config import cache_dir

        return None if self.common.no_cache else cache_dir(os.environ) / "archives"

    def read_around_cache(self) -> None:
        """Before the place is opened: what it holds is to be seen, not what this machine remembers of it."""
        self.common.no_cache = True

    def limit_upload(self, rate: str | None) -> None:
        """Before the place is opened: how many bytes a second may go over the network."""
        if rate is None:
            return
        from backup_tool.config import parse_size
        from backup_tool.destinations.limits import UploadLimit
        from backup_tool.errors import UsageError

        try:
            self._limit = UploadLimit(parse_size(rate))
        except ValueError:
            raise UsageError(f'"{shown(rate)}" is no size', "write --limit-upload '500 kB' or '2 MiB': bytes a second") from None

    def password(self, *, new: bool = False) -> Secret:
        """The password of the repository; asked for on a terminal only."""
        from backup_tool.actions.password import find_password

        return find_password(
            password_file=self.common.password_file,
            password_command=self.common.password_command,
            env=os.environ,
            settings=self.settings,
            ask=(lambda: console.ask_password(self.spec.label, twice=new)) if console.is_interactive() else None,
        )

    def repository(self) -> Repository:
        """The open repository."""
        from backup_tool.repository import Repository

        return Repository.open(self.place(self.destination), self.password())

    def each(self) -> Iterator[tuple[DestinationSpec, Repository | BackupError]]:
        """Every destination that is meant by itself, and the open repository or why it cannot be had."""
        from backup_tool.errors import BackupError
        from backup_tool.repository import Repository

        password = None
        for spec in self.specs:
            try:
                destination = self.place(self.place_of(spec).destination, spec)
                password = password or self.password()
                yield spec, Repository.open(destination, password)
            except BackupError as error:
                yield spec, error

    def place(self, destination: Destination, spec: DestinationSpec | None = None) -> Destination:
        """It, where there is a repository. Raises NoRepository with the command to type. `spec` names it where it is not the first."""
        if not destination.exists():
            from backup_tool.errors import NoRepository

            spec = spec or self.spec
            if (near := self._perhaps_meant()) is not None:
                raise NoRepository(f"no repository at {shown(spec.label)}", f"the nearest destination of the settings is: --repo {near}")
            doubt = "is the disk mounted?" if spec.type == "local" else "is that the right place, and the right account or client?"
            hint = f"{doubt} a new repository is made by: backup init --repo {console.quoted(spec.label)}"
            raise NoRepository(f"no repository at {shown(spec.label)}", hint)
        return destination

    def _perhaps_meant(self) -> str | None:
        from backup_tool.config import nearest_destination

        near = nearest_destination(self.common.repo or os.environ.get("BACKUP_REPOSITORY"), self.settings)
        return None if near is None else console.quoted(near)

    def archive(self, snapshot: str | None = None) -> Archive:
        """The archive view, or one snapshot."""
        from backup_tool.actions.archive import Archive

        return Archive(self.repository(), snapshot)

    @cached_property
    def progress(self) -> Progress:
        """Bars on a terminal, silence without one, warnings always."""
        return console.progress(quiet=self.common.quiet, verbose=self.common.verbose)

    @property
    def host(self) -> str:
        """The name under which this machine's snapshots stand."""
        import socket

        return self.settings.repository.host or socket.gethostname()

    def chosen(self, typed: list[str]) -> Chosen:
        """The sources that were typed, or all configured ones."""
        from backup_tool.actions.choose import choose

        return choose(typed, self.settings, self.state)

    def keys(self, files: list[str] | None) -> Callable[[SourceSpec], Unlock]:
        """Where the keys of a locked source come from: typed files, its settings, then a person on a terminal."""
        from backup_tool.actions.keys import keys_of

        ask = console.ask_key if console.is_interactive() else None
        return lambda spec: keys_of(spec, [Path(file) for file in files or []], os.environ, ask, self.progress.warn)

    def left_out(self, archive: Archive) -> int:
        """Tell what could not be taken from the archive; the exit code."""
        console.problems(archive.problems)
        return 5 if archive.lost else 3 if archive.problems else 0

    def result(self, value: Any, text: Callable[[], None]) -> None:
        """Print the result: as one JSON document, or by `text`."""
        if self.common.json:
            console.print_json(value)
            self.printed = True
        else:
            text()

    def note(self, text: str) -> None:
        """A line for a person, beside the result."""
        if not self.common.quiet:
            print(text, file=sys.stderr)
