"""What a person types and reads: one file per verb, thin. Nothing below this folder prints, prompts or exits."""

from backup_tool.cli.app import main

__all__ = ["main"]
