"""`backup config`: where the settings are, what they are, whether they are right."""

import os
from pathlib import Path

import typer

from backup_tool.cli import console
from backup_tool.cli.app import app, verb
from backup_tool.cli.session import Session
from backup_tool.names import shown

group = typer.Typer(help="The settings file: where it is, what it says, whether it is right.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(group, name="config")


@verb(group, repository=False)
def path(session: Session) -> None:
    """Print where the settings file is looked for."""
    from backup_tool.config import config_path

    where = config_path(os.environ, Path(session.common.config) if session.common.config else None)
    session.result({"path": str(where), "exists": where.exists()}, lambda: print(shown(str(where), 4000)))


@verb(group, repository=False)
def show(session: Session) -> None:
    """Print the settings that are in force, defaults included."""
    from backup_tool.actions.settings import settings_in_force

    settings = settings_in_force(session.settings)

    def text() -> None:
        for key, value in settings.items():
            print(f"{key} = {shown(str(value), 400)}")

    session.result(settings, text)


@verb(group, repository=False)
def check(session: Session) -> None:
    """Read the settings file and say whether it is right."""
    settings = session.settings
    told = {"sources": len(settings.sources), "destinations": len(settings.destinations)}
    session.result(
        told, lambda: print(f"right: {console.count(told['sources'], 'source')}, {console.count(told['destinations'], 'destination')}")
    )
