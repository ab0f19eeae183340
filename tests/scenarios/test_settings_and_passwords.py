"""Which archive is meant and what opens it: options, variables and settings, init, passwords, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import pty
import stat
import unicodedata
from pathlib import Path

import pytest

from tests.generators.android import phone
from tests.scenarios.album import Album
from tests.scenarios.world import PASSWORD, World, finish

NOWHERE: dict[str, str | None] = {"BACKUP_REPOSITORY": None}
NO_PASSWORD: dict[str, str | None] = {"BACKUP_PASSWORD_FILE": None}


@pytest.fixture
def here(album: Album, tmp_path: Path) -> World:
    """Another folder on the machine of the album."""
    return World(tmp_path / "here", repo=album.world.repo)


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: mode, time and bytes."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {str(path): (at.st_mode, at.st_mtime_ns, path.read_bytes() if stat.S_ISREG(at.st_mode) else b"") for path, at in found.items()}


# --- which archive ------------------------------------------------------------------------------------------------------------------


def test_a_restore_by_chat_needs_nothing_but_the_settings(here: World) -> None:
    """`backup restore --chat family`: archive and password come from the settings file in its usual place."""
    settings = here.folder / "home/.config/backup-tool/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[destinations.usb]\npath = "{here.repo}"\n[repository]\npassword_file = "{here.password_file}"\n')
    only_home = NOWHERE | NO_PASSWORD | {"BACKUP_CONFIG": None, "BACKUP_STATE_DIR": None, "BACKUP_CACHE_DIR": None}
    ended = here.backup("restore", "--chat", "Family", env=only_home)
    assert ended.text.startswith("restored 3 notes")
    assert len(list((here.folder / "restored/Family").iterdir())) == 3


def test_without_settings_it_says_what_to_type(here: World) -> None:
    """Nothing configured and nothing typed: exit code 2, and the option that is missing, in words that can be typed."""
    told = here.backup("restore", "--chat", "family", code=2, env=NOWHERE).told
    assert told.splitlines()[0] == "error: no repository is named"
    assert "--repo /path/to/archive" in told
    assert "backup init" in told


def test_option_wins_over_variable_wins_over_settings(here: World) -> None:
    """The nearest word counts; what it overrides is not even looked at."""
    here.configure('[destinations.usb]\npath = "/nowhere/settings"\n')
    told = here.backup("chats", "--repo", "/nowhere/option", code=10).told
    assert "/nowhere/option" in told
    assert "/nowhere/variable" in here.backup("chats", code=10, env={"BACKUP_REPOSITORY": "/nowhere/variable"}).told
    assert "/nowhere/settings" in here.backup("chats", code=10, env=NOWHERE).told
    assert here.backup("chats", "--repo", here.repo, env={"BACKUP_REPOSITORY": "/nowhere/variable"}).out


def test_a_configured_name_wins_over_a_path_and_dot_slash_is_a_path(here: World) -> None:
    """`--repo usb` is the configured place, `--repo ./usb` the folder of that name."""
    here.configure(f'[destinations.usb]\npath = "{here.repo}"\n')
    (here.folder / "usb").mkdir()
    assert here.backup("chats", "--repo", "usb").out
    assert "usb" in here.backup("chats", "-r", "./usb", code=10).told


def test_a_configured_source_wins_over_a_path_of_the_same_name(here: World, new_archive: Path) -> None:
    """`backup run phone` is the configured one, `backup run ./phone` the folder; a path to the configured folder is that source."""
    phone(here.folder / "elsewhere", notes=2)
    phone(here.folder / "phone", notes=3)
    here.configure(f'[sources.phone]\npath = "{here.folder}/elsewhere"\n')
    here.repo = new_archive
    assert here.run("phone")["notes"] == 2
    assert here.run("elsewhere")["unchanged"] == 2
    assert here.run("./phone", "--source", "phone")["notes"] == 3
    assert {tuple(place["source"] for place in note["found"]) for note in here.records()} == {("phone", "phone 2"), ("phone 2",)}


@pytest.fixture
def new_archive(tmp_path: Path) -> Path:
    """An empty archive."""
    world = World(tmp_path / "new")
    world.backup("init")
    return world.repo


@pytest.mark.parametrize("verb", ["run phone", "list", "restore", "check", "unlock"])
def test_an_empty_folder_is_an_unmounted_disk_and_stays_empty(here: World, verb: str) -> None:
    """No verb makes a fresh archive where one should be: exit code 10, and how to make one on purpose."""
    phone(here.folder / "phone", notes=1)
    empty = here.folder / "disk"
    empty.mkdir()
    ended = here.backup(*verb.split(), "--json", "--repo", empty, code=10)
    assert ended.json["error"]["code"] == 10
    assert f"backup init --repo {empty}" in ended.json["error"]["hint"]
    assert not list(empty.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "nowhere"), "no such folder or configured source: nowhere"),
        (("run", "empty"), "nothing recognised in empty"),
        (("scan", "empty"), "nothing recognised in empty"),
        (("run",), "no source was named and none is configured"),
        (("scan", "phone", "--show", "colour"), "cannot be shown"),
    ],
)
def test_a_source_that_cannot_be_meant_makes_no_snapshot(here: World, words: tuple[str, ...], told: str) -> None:
    """A mistyped or empty folder ends with 2 and one clear line, and the archive is as it was."""
    (here.folder / "empty").mkdir()
    phone(here.folder / "phone", notes=1)
    before = sorted((here.repo / "snapshots").iterdir())
    ended = here.backup(*words, code=2)
    assert told in ended.told.splitlines()[0]
    assert ended.out == b""
    assert sorted((here.repo / "snapshots").iterdir()) == before


# --- init and config ------------------------------------------------------------------------------------------------------------------


def test_init_makes_an_archive_once_and_never_touches_one_that_is_there(tmp_path: Path) -> None:
    """A new archive is told with its id; a second init ends with 2 and changes not one byte of it."""
    world = World(tmp_path)
    made = world.backup("init", "--json")
    assert list(made.json) == ["id", "repository"]
    assert made.json["repository"] == str(world.repo)
    assert "keep the password safe" in made.told
    before = state(world.repo)
    assert "there is a repository at" in world.backup("init", code=2).told
    assert state(world.repo) == before
    assert world.repo.stat().st_mode & 0o077 == 0
    quiet = world.backup("init", "--quiet", "--repo", "other")
    assert (quiet.text.startswith("created repository "), quiet.err) == (True, b"")


def test_config_shows_where_what_and_whether_it_is_right(here: World) -> None:
    """`path`, `show` and `check`; a wrong key is named with the nearest right one, and never a secret."""
    here.configure(f'[sources.phone]\npath = "phone"\n[repository]\npassword_file = "{here.password_file}"\n')
    assert here.backup("config", "path", "--json").json == {"path": str(here.settings), "exists": True}
    assert here.backup("config", "path").text == f"{here.settings}\n"
    shown = here.backup("config", "show").text.splitlines()
    assert f"sources.phone.path = {here.folder}/phone" in shown
    assert "repository.pack_size = 33554432" in shown
    assert here.backup("config", "check").text == "right: 1 source, 0 destinations\n"
    here.configure("[repositry]\n")
    told = here.backup("config", "check", code=2).told
    assert 'there is no key "repositry"' in told
    assert 'the nearest is "repository"' in told
    assert "there is no settings file" in here.backup("list", "--config", "no.toml", code=2).told


def test_quiet_and_verbose_leave_the_result_as_it_is(here: World, new_archive: Path) -> None:
    """`-q` takes away what is not result, warning or error; neither changes stdout, and a run says its closing line with both."""
    plain = here.backup("list")
    for option in ("-q", "-v"):
        ended = here.backup("list", option)
        assert (ended.out, ended.err) == (plain.out, b"")
    here.repo = new_archive
    phone(here.folder / "phone", notes=1)
    for option, new in (("-q", 1), ("-v", 0)):
        ended = here.backup("run", "phone", option)
        assert [line.startswith(f"{new} new note") for line in ended.text.splitlines()] == [True]


# --- passwords ------------------------------------------------------------------------------------------------------------------------


def test_a_password_may_come_from_a_file_a_variable_or_a_command(here: World) -> None:
    """Each source opens the archive; an option wins over the variables."""
    wrong = here.folder / "wrong"
    wrong.write_text("wrong\n")
    wrong.chmod(0o600)
    ways: list[tuple[list[object], dict[str, str | None]]] = [
        (["--password-file", here.password_file], {"BACKUP_PASSWORD_FILE": str(wrong)}),
        (["--password-command", f"cat '{here.password_file}'"], {"BACKUP_PASSWORD_FILE": str(wrong)}),
        ([], NO_PASSWORD | {"BACKUP_PASSWORD": PASSWORD}),
        ([], NO_PASSWORD | {"BACKUP_PASSWORD_COMMAND": f"echo '{PASSWORD}'"}),
    ]
    for words, env in ways:
        assert here.backup("snapshots", *words, env=env).out
    told = here.backup("snapshots", "--json", code=12, env={"BACKUP_PASSWORD_FILE": str(wrong)})
    assert told.json["error"]["code"] == 12
    assert "wrong\n" not in told.told


def test_a_password_through_a_pipe_is_taken(here: World) -> None:
    """`--password-file <(…)`: what a shell's process substitution gives."""
    read, write = os.pipe()
    os.write(write, PASSWORD.encode() + b"\n")
    os.close(write)
    assert here.backup("snapshots", "--password-file", f"/dev/fd/{read}", pass_fds=[read]).out
    os.close(read)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_password_file_that_others_may_read_or_change_is_refused(here: World, mode: int) -> None:
    """Exit code 2, with the command that mends it."""
    here.password_file.chmod(mode)
    told = here.backup("list", code=2).told
    assert "others may read the password file" in told
    assert f"chmod 600 {here.password_file}" in told


def test_two_password_variables_are_refused(here: World) -> None:
    """Nobody could tell which one is meant: exit code 2, both named, neither shown."""
    told = here.backup("list", code=2, env={"BACKUP_PASSWORD": "another one"}).told
    assert "BACKUP_PASSWORD and BACKUP_PASSWORD_FILE are both set" in told
    assert "another one" not in told


def test_without_a_password_source_and_without_a_terminal_it_ends_at_once(here: World) -> None:
    """Nothing waits for input that never comes: exit code 2, and every way to give a password named."""
    ended = finish(here.start("list", env=NO_PASSWORD), 20)
    assert (ended.code, ended.out) == (2, b"")
    assert "no password source, and no terminal to ask on" in ended.told
    for way in ("--password-file", "--password-command", "BACKUP_PASSWORD_FILE"):
        assert way in ended.told


def test_on_a_terminal_the_password_is_asked_for_and_not_shown(here: World) -> None:
    """A person types it once; the terminal shows the question only."""
    ours, theirs = pty.openpty()
    process = here.start("snapshots", "--json", env=NO_PASSWORD, stdin=theirs, stderr=theirs, preexec_fn=lambda: take_terminal(theirs))
    screen = b""
    while b"password for" not in screen or not screen.endswith(b": "):
        screen += os.read(ours, 1000)
    os.write(ours, PASSWORD.encode() + b"\n")
    ended = finish(process)
    os.close(theirs)
    screen += os.read(ours, 1000)
    os.close(ours)
    assert (ended.code, len(ended.json)) == (0, 1)
    assert PASSWORD.encode() not in screen
    assert screen.count(b"password for") == 1


def take_terminal(handle: int) -> None:
    """In a child: this is the terminal from now on."""
    import fcntl
    import termios

    fcntl.ioctl(handle, termios.TIOCSCTTY, 0)


def test_a_password_is_the_same_however_its_accents_were_typed(tmp_path: Path) -> None:
    """Composed or not, with a line end or a blank around it: one password, also to restic."""
    world = World(tmp_path)
    composed = unicodedata.normalize("NFC", "Träumerei über Öl")
    world.backup("init", env=NO_PASSWORD | {"BACKUP_PASSWORD": unicodedata.normalize("NFD", composed)})
    for typed in (composed, f" {unicodedata.normalize('NFD', composed)} "):
        assert world.backup("snapshots", "--json", env=NO_PASSWORD | {"BACKUP_PASSWORD": typed}).json == []
    [key] = (world.repo / "keys").iterdir()
    assert json.loads(key.read_bytes())["kdf"] == "scrypt"


def test_a_wrong_password_writes_nothing(here: World) -> None:
    """Exit code 12 for every verb that opens the archive, before anything is made."""
    phone(here.folder / "phone", notes=1)
    before = state(here.repo)
    for verb in ("run phone", "restore", "check"):
        here.backup(*verb.split(), code=12, env=NO_PASSWORD | {"BACKUP_PASSWORD": "Wise owls sing at noon"})
    assert state(here.repo) == before
    assert not (here.folder / "restored").exists()
