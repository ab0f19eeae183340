"""Which sources a person means: names from the settings, or paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from backup_tool.actions.state import State
from backup_tool.config import Settings, SourceSpec
from backup_tool.errors import UsageError
from backup_tool.models import RESERVED
from backup_tool.names import shown


class Chosen(NamedTuple):
    """The sources, and the names of those that were typed as a path: such a one must be there."""

    sources: list[SourceSpec]
    typed: set[str]


def choose(typed: Sequence[str], settings: Settings, state: State) -> Chosen:
    """The sources that were typed, or all configured ones.

    A name from the settings wins over a path; `./name` is a path. A path is named after the configured source with that real path,
    else after its last folder. Raises UsageError where there is none, or a path does not exist.
    """
    if not typed:
        if not settings.sources:
            raise UsageError(
                "no source was named and none is configured",
                "see what this machine has with 'backup scan --all', then name it: backup run ~/phone/WhatsApp --repo PLACE",
            )
        return Chosen(list(settings.sources.values()), set())
    sources: list[SourceSpec] = []
    names: set[str] = set()
    for text in dict.fromkeys(typed):
        if text in settings.sources:
            sources.append(settings.sources[text])
            continue
        spec = _from_path(text, settings, state, sources)
        sources.append(spec)
        names.add(spec.name)
    return Chosen(list({spec.name: spec for spec in sources}.values()), names)


def _from_path(text: str, settings: Settings, state: State, others: Sequence[SourceSpec]) -> SourceSpec:
    path = Path(os.path.expanduser(text))
    if not os.path.exists(path):
        configured = ", ".join(sorted(settings.sources)) or "none"
        hint = f"configured sources: {configured}; see what this machine has with 'backup scan --all'"
        raise UsageError(f"no such folder or configured source: {shown(text, 1000)}", hint)
    real = path.resolve()
    for spec in settings.sources.values():
        if os.path.realpath(spec.path) == str(real):
            return spec
    # Two folders that are called alike are two sources, also where the state folder cannot remember which is which.
    # What is imported by hand must stay apart: a run would look for it in a folder of that name.
    taken = {**dict.fromkeys(RESERVED, ""), **{spec.name: os.path.realpath(spec.path) for spec in (*others, *settings.sources.values())}}
    return SourceSpec(name=state.name_for_path(real, real.name or "source", taken), type="auto", path=path)
