"""What a run counts, and that its sums say what they are made of."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from tests.generators.chat_export import WRITERS, Line, voice_name, zipped
from tests.generators.ogg import opus_note
from tests.scenarios.world import World


def test_a_run_tells_why_messages_have_no_file(tmp_path: Path) -> None:
    """Audio that was left out of an export is missing, and said to be omitted; in JSON the number stands beside the sum."""
    world = World(tmp_path / "pc")
    world.backup("init")
    writer, sent = WRITERS["iphone british"], datetime(2026, 3, 3, 14, 5, 37)
    name = voice_name(writer, sent, 1)
    lines = [Line(sent, "Anna", file=name), Line(sent + timedelta(days=20), "Anna", omitted=True)]
    file, data = zipped(writer, "Anna", lines, {name: opus_note(1, seed=1)})
    (world.folder / file).write_bytes(data)
    told = world.run(file)
    assert (told["new"], told["missing"], told["omitted"]) == (1, 1, 1)
    assert "not_downloaded" not in told
    assert "1 missing (1 omitted)" in world.backup("run", file).text
