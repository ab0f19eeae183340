"""WhatsApp on Apple's systems: in backups of iPhones and iPads (type `whatsapp-iphone`), and on a Mac (`whatsapp-mac`).

`open_backup` opens a device backup for other readers too: it lists any domain, and gives files and databases of it.
"""

from __future__ import annotations

from backup_tool.sources.apple.backup import OpenBackup, open_backup, read_payload
from backup_tool.sources.apple.iphone import IPhoneSource
from backup_tool.sources.apple.mac import MacSource
from backup_tool.sources.apple.stores import IPhoneRecogniser, MacRecogniser, describe

__all__ = ["IPhoneRecogniser", "IPhoneSource", "MacRecogniser", "MacSource", "OpenBackup", "describe", "open_backup", "read_payload"]
