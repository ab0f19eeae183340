"""The settings in force, as a person may see them: where secrets are found, never what they are."""

from __future__ import annotations

from typing import Any

import msgspec

from backup_tool.config import Settings


def settings_in_force(settings: Settings) -> dict[str, Any]:
    """Every setting by its dotted name (`repository.pack_size`), defaults included; what is not set is left out."""
    plain = msgspec.to_builtins(settings, enc_hook=str)
    return {name: value for name, value in _flat("", plain) if value is not None}


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [pair for key, below in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else key, below)]
