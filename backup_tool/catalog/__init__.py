"""The records of notes: how they are written, when two are one note, what a later one may change, and finding among them.

Nothing here reads or writes a repository.
"""

from backup_tool.catalog.finding import UNSORTED, Filter, chats_called, closest_chats, match_chats, speaks_of
from backup_tool.catalog.identity import EXPORTED, file_name, is_imported, name_worth
from backup_tool.catalog.ledger import Ledger, enter, merge
from backup_tool.catalog.records import (
    MONTH,
    UNDATED,
    CatalogDamaged,
    by_time,
    decode_chats,
    decode_deleted,
    decode_note,
    encode_chat,
    encode_note,
    record_order,
    time_ns,
    time_of,
    time_text,
)
from backup_tool.catalog.saved import Marks
from backup_tool.catalog.view import Entry, View, best_titles, entry, entry_decoder, joined_chats

__all__ = [
    "EXPORTED", "MONTH", "UNDATED", "UNSORTED", "CatalogDamaged", "Entry", "Filter", "Ledger", "Marks", "View", "best_titles", "by_time",
    "chats_called", "closest_chats", "decode_chats", "decode_deleted", "decode_note", "encode_chat", "encode_note", "enter", "entry",
    "entry_decoder", "file_name", "is_imported", "joined_chats", "match_chats", "merge", "name_worth", "record_order", "speaks_of",
    "time_ns", "time_of", "time_text",
]  # fmt: skip
