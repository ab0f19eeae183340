"""The papers tell the truth: every command they show exists with its options, every link leads somewhere, nothing is left unsaid."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from backup_tool import config, errors
from backup_tool.models import Note

ROOT = Path(__file__).parent.parent
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "configs").glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHARED = {
    "--repo",
    "--password-file",
    "--password-command",
    "--config",
    "--no-cache",
    "--json",
    "--quiet",
    "--verbose",
    "--debug",
    "--help",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def help_of(*words: str) -> str:
    """What `backup … --help` prints; fails where there is no such command."""
    wide = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-m", "backup_tool", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=wide, check=False, timeout=60)
    assert done.returncode == 0, f"backup {' '.join(words)}: {done.stderr}"
    return done.stdout


def commands_in(text: str) -> list[str]:
    """The verbs that a help text lists."""
    return re.findall(r"^  ([a-z]+)(?: |$)", text.partition("\nCommands:\n")[2], re.MULTILINE)


def path_of(words: list[str]) -> tuple[str, ...]:
    """The verb in what was typed, and the second one of a group: ("config", "check")."""
    if words[0] not in commands_in(help_of()):
        return (words[0],)
    inner = commands_in(help_of(words[0]))
    return (words[0], words[1]) if len(words) > 1 and words[1] in inner else (words[0],)


def shown_commands(text: str) -> Iterator[str]:
    """What stands behind `backup` wherever a paper shows it as code."""
    for block in re.findall(r"^ *```(?:sh|cron)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if match := re.search(r"(?:^|[\s/])backup ([a-z][^#]*)", line):
                yield match[1]
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`backup ([a-z][^`]*)`", outside)


@pytest.mark.parametrize("paper", PAPERS, ids=name_of)
def test_every_command_shown_exists_with_its_options(paper: Path) -> None:
    """What a paper tells a person to type can be typed."""
    for command in shown_commands(paper.read_text()):
        words = command.split()
        known = help_of(*path_of(words))
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}\b", known), f"backup {command}: no {word}"


def test_the_papers_show_commands() -> None:
    """The README shows the three commands that matter, and the search for commands finds them."""
    verbs = [command.split()[0] for command in shown_commands((ROOT / "README.md").read_text())]
    assert verbs[:3] == ["init", "run", "restore"]


@pytest.mark.parametrize("paper", PAPERS, ids=name_of)
def test_every_link_leads_somewhere(paper: Path) -> None:
    """A relative link names a file that is there, and a heading that is in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", paper.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (paper.parent / path).resolve() if path else paper
        assert file.is_file(), f"{target} is not there"
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", words).strip().lower().replace(" ", "-") for words in headings}


def test_every_paper_can_be_found() -> None:
    """Each paper is linked from another one."""
    linked = {
        (paper.parent / target.partition("#")[0]).resolve()
        for paper in PAPERS
        for target in re.findall(r"\]\(([^)\s]+)\)", paper.read_text())
        if "://" not in target
    }
    assert [name_of(paper) for paper in PAPERS if paper not in linked and paper.name != "README.md"] == []


def test_every_verb_and_option_is_described() -> None:
    """The reference of commands leaves out no verb and none of its options."""
    text = (ROOT / "docs/reference/commands.md").read_text()
    sections = dict(re.findall(r"^## ([a-z]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    verbs = commands_in(help_of())
    assert sorted(sections) == sorted(verbs)
    filters = text.partition("## Filters")[2].partition("\n## ")[0]
    for verb in verbs:
        for inner in commands_in(help_of(verb)):
            assert f"backup {verb} {inner}" in sections[verb]
        described = sections[verb] + (filters if "the filters" in sections[verb] else "")
        own = set(re.findall(r"--[a-z][a-z-]+", help_of(verb).partition("\nOptions:\n")[2])) - SHARED
        assert {option for option in own if option not in described} == set(), verb


def test_every_setting_is_described() -> None:
    """The reference of settings names every key, and its example is a settings file that works."""
    text = (ROOT / "docs/reference/configuration.md").read_text()
    assert {key for keys in config.KEYS.values() for key in keys if f"`{key}`" not in text} == set()
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    settings = config.parse_settings(tomllib.loads(example), Path("/etc/config.toml"))
    assert list(settings.sources) == ["phone", "recorder"]


def test_every_exit_code_and_field_is_described() -> None:
    """Scripts find each exit code and each field of a record in the reference."""
    codes = {cls.exit_code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.BackupError)}
    table = (ROOT / "docs/reference/exit-codes.md").read_text()
    assert codes | {0} == {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    record = (ROOT / "docs/reference/json.md").read_text()
    assert {field for field in Note.__struct_fields__ if f"`{field}`" not in record} == set()


def test_every_hint_names_a_command_that_exists() -> None:
    """What an error tells a person to type can be typed: no hint names a verb or option that this version does not have."""
    for path in sorted((ROOT / "backup_tool").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            for command in re.findall(r"(?:'|: |with |^ *)backup ([a-z]+\b(?: [^'\n]*)?)", node.value, re.MULTILINE):
                words = command.replace(")", " ").replace(",", " ").split()
                known = help_of(*path_of(words))
                for option in [word for word in words if re.fullmatch(r"--[a-z-]+", word)]:
                    assert option in known, f"{path.name}:{node.lineno}: backup {command}"
