"""The phone's own tree: which folder and name each note gets in `--layout original`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backup_tool.actions.layout import OriginalLayout
from backup_tool.catalog import Entry
from backup_tool.models import IMPORTED, Place

PTT = "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus"
CURRENT = "Android/media/com.whatsapp/WhatsApp"


def entry(number: int = 1, path: str | None = PTT, *, source: str = "phone", root: str = "", host: str = "desk", **known: Any) -> Entry:
    place = f"{root}/{path}".lstrip("/")
    known.setdefault("sent_at", f"2026-03-03T14:00:{number:02}Z")
    return Entry(
        id=f"{number:08x}" + "0" * 56, original_path=path, found=[Place(source, place)], source=source, host=host, hosts=[host], **known
    )


def paths(*notes: Entry) -> list[str]:
    layout = OriginalLayout(notes)
    return ["/".join(layout.of(note)) for note in notes]


def test_a_phones_notes_stand_where_the_phone_had_them() -> None:
    """Whatever folder of the phone was copied, the tree begins at `Media`, as below WhatsApp's own folder; signs of own names stay."""
    song = "Media/WhatsApp Audio/Sent/Für Élise ♥ 👩 (live).mp3"
    assert paths(entry(root=CURRENT), entry(2, song, root=CURRENT)) == [PTT, song]
    assert paths(entry()) == [PTT]


def test_two_phones_have_a_tree_each() -> None:
    """Two phones, or WhatsApp and WhatsApp Business of one, never mix: each has a folder called as its source, the phone's own below it."""
    business = entry(2, PTT.replace("WhatsApp V", "WhatsApp Business V"), root="Android/media/com.whatsapp.w4b/WhatsApp Business")
    assert paths(entry(root=CURRENT), business) == [f"phone/{CURRENT}/{PTT}", f"phone/{business.found[0].path}"]
    assert paths(entry(), entry(2, source="old phone")) == [f"phone/{PTT}", f"old phone/{PTT}"]


def test_phones_of_two_machines_that_are_called_alike_are_told_apart() -> None:
    """One name on two phones, called "phone" on both machines, is two recordings in two trees."""
    assert paths(entry(), entry(2, host="laptop")) == [f"phone desk/{PTT}", f"phone laptop/{PTT}"]
    assert paths(entry(), entry(1, host="laptop")) == [PTT, PTT]


def test_a_name_that_was_given_twice_belongs_to_the_note_that_is_there() -> None:
    """Of two notes that had one name on the phone, the one that the phone still has gets it, else the newer; the other one is beside it."""
    old, new = entry(1), entry(2)
    beside = PTT.replace("WA0001", "WA0001 00000001")
    assert paths(old, new) == [beside, PTT]
    gone = entry(2, missing_since="2026-04-01T00:00:00Z")
    assert paths(old, gone) == [PTT, PTT.replace("WA0001", "WA0001 00000002")]
    assert [OriginalLayout([old, new]).is_second(note) for note in (old, new)] == [True, False]


def test_what_never_was_on_such_a_phone_has_a_folder_of_its_own() -> None:
    """Recordings of other kinds stand below the name of their source, imports below their chat; a phone's tree holds nothing else."""
    memo = entry(2, "20260303 140500.m4a", source="memos")
    imported = entry(3, "Memo.m4a", source=IMPORTED, chat="Anna")
    imported.found = [Place(IMPORTED, "0123/4567/Memo.m4a")]
    exported = entry(4, "PTT-20260303-WA0009.opus", source="exports", root="WhatsApp Chat - Ben.zip")
    iphone = entry(5, "Message/Media/1@g.us/a/b/x.opus", source="iphone")
    nowhere = entry(6, None, source="memos", chat="Ben", sent_at=None)
    assert paths(entry(), memo, imported, exported, iphone, nowhere) == [
        PTT,
        "memos/20260303 140500.m4a",
        "imported/Anna/Memo.m4a",
        "exports/WhatsApp Chat - Ben.zip/PTT-20260303-WA0009.opus",
        "iphone/Message/Media/1@g.us/a/b/x.opus",
        "memos/Ben/undated",
    ]


@given(st.text(max_size=40), st.text(max_size=20), st.sampled_from(["Media/", ""]))
def test_no_path_of_a_store_leads_out_of_the_target(path: str, source: str, media: str) -> None:
    """Whatever a store claims, each part is a plain name: not hidden, no way up, no control sign, no option."""
    for part in OriginalLayout([one := entry(1, media + path, source=source)]).of(one):
        assert part not in ("", ".", "..")
        assert part[0] not in ".-~"
        assert not set(part) & set('/\\:*?"<>|\0\n\r\x1b\u202e')
