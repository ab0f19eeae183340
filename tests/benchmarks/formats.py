"""Measures how fast notes become MP3 or another format, and how long one takes to become a mail draft.

python -m tests.benchmarks.formats                                1,000 notes of 20 seconds of speech (by espeak-ng), to MP3
python -m tests.benchmarks.formats --format m4a --notes 200

The speed is seconds of sound for each second of a processor: over both processes, start included.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import av

from tests.audio.judge import by_ffmpeg
from tests.benchmarks.__main__ import measure
from tests.generators.ogg import opus_head, opus_tags, page

SECONDS = 20
_TEXT = "Hello grandma, it is me. We were in the garden all day, and the little one said her first whole sentence: where is the cat? "
_PACKETS_A_PAGE = 34


def speech() -> list[bytes]:
    """Opus packets of 60 ms of somebody who talks for some minutes, as a phone encodes it: 16 kHz, 16 kbit/s."""
    spoken = subprocess.run(["espeak-ng", "-s", "140", "--stdout", _TEXT * 12], check=True, capture_output=True).stdout
    out = io.BytesIO()
    with by_ffmpeg(spoken) as source, av.open(out, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=16000, options={"application": "voip", "frame_duration": "60"})
        assert isinstance(stream, av.AudioStream)
        stream.layout, stream.bit_rate = "mono", 16000
        for frame in source.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with by_ffmpeg(out.getvalue()) as note:
        return [bytes(packet) for packet in note.demux(note.streams.audio[0]) if packet.size]


def make_notes(folder: Path, count: int) -> None:
    """Notes of 20 seconds, each another stretch of the speech."""
    packets = speech()
    folder.mkdir()
    for number in range(count):
        start = number % (len(packets) - SECONDS * 50 // 3)
        chosen = packets[start : start + SECONDS * 50 // 3]
        pages = [page([opus_head()], 0, 0, flags=2), page([opus_tags()], 0, 1)]
        for at in range(0, len(chosen), _PACKETS_A_PAGE):
            some = chosen[at : at + _PACKETS_A_PAGE]
            pages.append(page(some, 104 + (at + len(some)) * 2880, len(pages)))
        (folder / f"PTT-20260301-WA{number:04}.opus").write_bytes(b"".join(pages))


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.formats")
    parser.add_argument("--notes", type=int, default=1000)
    parser.add_argument("--format", default="mp3")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backup-bench-") as folder:
        work = Path(folder)
        make_notes(work / "notes", given.notes)
        (work / "config.toml").touch()
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ} | {
            "BACKUP_PASSWORD": "benchmark",
            "BACKUP_REPOSITORY": str(work / "archive"),
            "BACKUP_STATE_DIR": str(work / "state"),
            "BACKUP_CONFIG": str(work / "config.toml"),
        }
        backup = [sys.executable, "-m", "backup_tool"]
        measure([*backup, "init"], env)
        measure([*backup, "run", str(work / "notes"), "-q"], env)
        all_of_it = measure([*backup, "restore", "--format", given.format, "--to", str(work / "out"), "-q"], env)
        again = measure([*backup, "restore", "--format", given.format, "--to", str(work / "out"), "-q"], env)
        plain = measure([*backup, "restore", "--to", str(work / "plain"), "-q"], env)
        seconds, made = given.notes * SECONDS, sum(path.stat().st_size for path in (work / "out").rglob(f"*.{given.format}"))
        print(
            f"{given.notes:,} notes of {SECONDS} s to {given.format}: {all_of_it.wall:.1f} s, {all_of_it.cpu:.1f} s of processors, ", end=""
        )
        print(
            f"peak {all_of_it.memory:.0f} MB; {seconds / all_of_it.cpu:.0f} x real time a core, {seconds / all_of_it.wall:.0f} x in all; ",
            end="",
        )
        print(f"{made / 1e6:.1f} MB; the same again {again.wall:.1f} s; as recorded {plain.wall:.1f} s ({plain.cpu:.1f})")
        note = hashlib.sha256((work / "notes/PTT-20260301-WA0007.opus").read_bytes()).hexdigest()
        drafts = [measure([*backup, "extract", note, "--eml", str(work / f"{n}.eml")], env) for n in range(7)]
        walls, cpu = sorted(one.wall for one in drafts), sorted(one.cpu for one in drafts)
        print(
            f"one note as an MP3 mail draft: {walls[len(walls) // 2]:.2f} s (best {walls[0]:.2f}), {cpu[len(cpu) // 2]:.2f} s of processors"
        )


if __name__ == "__main__":
    main()
