"""The samples in configs/ are right, and the full one leaves nothing out."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup_tool.config import DESTINATION_KEYS, KEYS, Settings, load_settings, parse_settings
from tests.parts import needs

CONFIGS = Path(__file__).parents[2] / "configs"
SAMPLES = sorted(CONFIGS.glob("*.toml"))
FULL = (CONFIGS / "full.toml").read_text()
SETTING = re.compile(r"#(?=\[|\w+ = )")


def everything() -> str:
    """The full sample with every setting in force, alternatives too: for the names only."""
    return SETTING.sub("", FULL)


def one_at_a_time() -> Iterator[tuple[str, str]]:
    """The full sample with one commented setting or table in force, instead of its alternative."""
    for block in re.split(r"\n(?=#?\[)", FULL):
        if block.startswith("#["):
            passwords = re.findall(r"^#password_.*\n", block, re.MULTILINE)
            for kept in passwords or [""]:
                alone = "".join(line for line in block.splitlines(keepends=True) if line == kept or line not in passwords)
                yield f"{block.split(']')[0]}] {kept}", FULL.replace(block, SETTING.sub("", alone))
            continue
        for line in re.findall(r"^#\w+ = .*", block, re.MULTILINE):
            kind = "key" if line.startswith("#key") else "password"
            alone = re.sub(rf"^{kind}_(file|command) = .*\n", "", block, flags=re.MULTILINE)
            yield line, FULL.replace(block, alone.replace(line, line[1:]))


def parsed(text: str) -> Settings:
    return parse_settings(tomllib.loads(text), CONFIGS / "full.toml")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_is_right(path: Path) -> None:
    """A sample can be copied as it is: it reads without an error, and has a source, a primary and a password source."""
    settings = load_settings(path, {})
    assert settings.path == path
    assert settings.sources
    assert next(iter(settings.destinations.values())).type == "local"
    assert settings.repository.password_file or settings.repository.password_command


def test_the_samples_are_there() -> None:
    """The samples that the documentation names exist, and each is named there."""
    told = (CONFIGS / "README.md").read_text()
    assert {path.name for path in SAMPLES} >= {"minimal.toml", "full.toml", "local-disk.toml"}
    assert all(f"]({path.name})" in told for path in CONFIGS.iterdir() if path.name != "README.md")


def test_every_setting_is_in_the_full_sample() -> None:
    """Every key that the program knows stands in full.toml, in its table; and no other key does."""
    tables = tomllib.loads(everything())
    found: dict[str, set[str]] = {key: set(tables[key]) for key in ("repository", "retention", "email")}
    found["sources.*"] = set().union(*tables["sources"].values())
    found |= {f"destinations.*:{table['type']}": set(table) for table in tables["destinations"].values()}
    assert found == {title: set(keys) for title, keys in KEYS.items()}
    assert set(tables) == {"sources", "destinations", "repository", "retention", "email"}


@pytest.mark.parametrize(("what", "text"), list(one_at_a_time()), ids=lambda value: value.splitlines()[0][:40])
def test_each_alternative_in_the_full_sample_is_right(what: str, text: str) -> None:
    """Taking away the # before a setting (and removing what it replaces) gives settings that are right and other than before."""
    assert parsed(text) != parsed(FULL), what


def test_every_kind_of_destination_is_in_the_full_sample() -> None:
    """Each type of destination can be seen in full.toml."""
    assert {table["type"] for table in tomllib.loads(everything())["destinations"].values()} == set(DESTINATION_KEYS)
    assert len(list(one_at_a_time())) == 18


def cron_lines() -> list[str]:
    lines = (CONFIGS / "crontab.example").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_nights_work_as_cron_starts_them(tmp_path: Path) -> None:
    """With the minimal settings and nothing but HOME and PATH, each line for cron does its work in silence, and restic agrees."""
    needs("restic")
    notes = tmp_path / "phone" / "WhatsApp" / "Media" / "WhatsApp Voice Notes" / "202601"
    settings, program = tmp_path / ".config" / "backup-tool", tmp_path / ".local" / "bin" / "backup"
    for folder in (notes, settings, program.parent):
        folder.mkdir(parents=True)
    (notes / "PTT-20260101-WA0001.opus").write_bytes(bytes(5000))
    (settings / "config.toml").write_bytes((CONFIGS / "minimal.toml").read_bytes())
    (settings / "password").write_text("word\n")
    (settings / "password").chmod(0o600)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CONFIGS.parent} exec {sys.executable} -m backup_tool "$@"\n')
    program.chmod(0o700)

    def cron(line: str) -> str:
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        command = ["/bin/sh", "-c", line]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    cron('"$HOME/.local/bin/backup" init --repo archive')
    nights = [cron(line.split(maxsplit=5)[5]).splitlines() for line in cron_lines()]
    assert [len(lines) for lines in nights] == [1, 1]
    assert nights[0][0].startswith("1 new note, ")
    where = ["restic", "-r", str(tmp_path / "voice-notes"), "--password-file", str(settings / "password"), "--no-cache"]
    subprocess.run([*where, "check", "--read-data"], check=True, capture_output=True)
    listed = subprocess.run([*where, "ls", "latest"], check=True, capture_output=True, text=True).stdout
    assert "PTT-20260101-WA0001.opus" in listed


@pytest.mark.parametrize("line", cron_lines(), ids=lambda line: shlex.split(line)[6])
def test_cron_lines_are_whole(line: str) -> None:
    """A line for cron has five times, no percent sign (cron reads it as a line end), and names the program by its whole path."""
    *times, command = line.split(maxsplit=5)
    assert len(times) == 5
    assert all(re.fullmatch(r"[\d*/,-]+", time) for time in times)
    assert "%" not in command
    assert command.startswith('"$HOME/')
