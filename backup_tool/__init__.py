"""backup: keep people's voice notes in encrypted archives, and give any single one back."""

__version__ = "0.1.0"
