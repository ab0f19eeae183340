"""Where the password comes from, and where it never goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import pytest

from backup_tool import credentials
from backup_tool.actions.password import find_password
from backup_tool.config import RepositorySettings, Settings
from backup_tool.credentials import child_environment, read_keyring, read_secret_file, run_secret_command
from backup_tool.errors import ConfigError, NoPassword, UsageError
from backup_tool.models import Secret

ROOT = Path(__file__).parents[2]
SECRET = "korrekt Pferd ☂ Batterie"


def find(env: dict[str, str] | None = None, *, file: Any = None, command: Any = None, ask: Any = None, **settings: Any) -> str:
    """The password found, with this environment, these options and these settings."""
    found = find_password(
        password_file=file,
        password_command=command,
        env={"PATH": os.environ["PATH"], **(env or {})},
        settings=Settings(repository=RepositorySettings(**settings)),
        ask=ask,
    )
    return found.reveal()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def script(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(lines)]


class Memory(keyring.backend.KeyringBackend):
    """A keyring as good as any, that forgets at the end."""

    priority = 1.0

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@pytest.fixture
def memory() -> Iterator[Memory]:
    before = keyring.get_keyring()
    memory = Memory()
    keyring.set_keyring(memory)
    yield memory
    keyring.set_keyring(before)


def test_the_order_is_option_environment_settings_keyring_person(tmp_path: Path, memory: Memory) -> None:
    """The nearer source wins: option, environment, settings file, keyring, then the person at the terminal."""
    paths = {}
    for name in ("option", "environment", "settings"):
        paths[name] = tmp_path / name
        paths[name].write_text(name)
        paths[name].chmod(0o600)
    memory.set_password("backup-tool", "notes", "keyring")
    env = {"BACKUP_PASSWORD_FILE": str(paths["environment"])}
    assert find(env, file=paths["option"], password_file=paths["settings"]) == "option"
    assert find(env, command="echo option", password_file=paths["settings"]) == "option"
    assert find(env, password_file=paths["settings"]) == "environment"
    assert find({"BACKUP_PASSWORD": "word"}, password_file=paths["settings"]) == "word"
    assert find({"BACKUP_PASSWORD_COMMAND": "echo word"}, password_file=paths["settings"]) == "word"
    assert find({"BACKUP_PASSWORD": ""}, password_file=paths["settings"], ask=lambda: Secret("person")) == "settings"
    assert find(password_command=("echo", "settings")) == "settings"
    assert find(password_keyring="notes", ask=lambda: Secret("person")) == "keyring"
    assert find(ask=lambda: Secret("person")) == "person"


def test_without_a_source_it_ends_at_once() -> None:
    """Unattended and without a password source nothing is asked: exit code 2, with what to type."""
    with pytest.raises(NoPassword, match="no password source") as caught:
        find()
    assert caught.value.exit_code == 2
    assert "--password-file" in caught.value.hint


@pytest.mark.parametrize("second", ["BACKUP_PASSWORD_FILE", "BACKUP_PASSWORD_COMMAND"])
def test_two_variables_are_one_too_many(secret_file: Path, second: str) -> None:
    """Two password variables at once are refused, also beside an option: one of them is not what the person thinks."""
    env = {"BACKUP_PASSWORD": SECRET, second: str(secret_file)}
    for file in (None, secret_file):
        with pytest.raises(UsageError, match=rf"BACKUP_PASSWORD and {second} are both set") as caught:
            find(env, file=file)
        assert SECRET not in caught.value.message + caught.value.hint
    with pytest.raises(UsageError, match="both given"):
        find(file=secret_file, command="echo x")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"word", "word"),
        (b"word\n", "word"),
        (b"word\r\n", "word"),
        (b"word\n\n", "word\n"),
        (b" two words \n", " two words "),
        (b"line one\nline two\n", "line one\nline two"),
        ("Pässwörd".encode(), "Pässwörd"),
        ("Pa\u0308ss".encode(), "Pa\u0308ss"),
        (b"\xef\xbb\xbfword\r\n", "word"),
        (b"\xff\xfew\x00o\x00\n\x00", "wo"),
        (b"\xfe\xff\x00w\x00o", "wo"),
        (b"p\xe4ss", "p\udce4ss"),
    ],
)
def test_a_file_gives_its_text_without_its_line_end(secret_file: Path, data: bytes, text: str) -> None:
    """A password file may end in a line end and carry a byte order mark; the rest is the password as it stands, in any encoding."""
    secret_file.write_bytes(data)
    assert find(file=secret_file) == text
    assert find(file=str(secret_file)) == text
    assert find(command=["cat", str(secret_file)]) == text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o777])
def test_a_file_that_others_may_read_is_refused(secret_file: Path, mode: int) -> None:
    """A password file must be its owner's alone; the message has the command that makes it so."""
    secret_file.chmod(mode)
    with pytest.raises(UsageError, match="others may read") as caught:
        find(file=secret_file)
    assert caught.value.hint.endswith(f"chmod 600 {secret_file}")
    subprocess.run(["/bin/sh", "-c", caught.value.hint.partition(": ")[2]], check=True)
    assert find(file=secret_file) == SECRET


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o611])
def test_a_file_of_ones_own_is_fine(secret_file: Path, mode: int) -> None:
    """Only reading and writing by others counts."""
    secret_file.chmod(mode)
    assert find(file=secret_file) == SECRET


def test_systemd_credentials_are_fine(secret_file: Path) -> None:
    """A credential that systemd put into its private folder is readable by its group only on paper."""
    secret_file.chmod(0o440)
    assert find({"CREDENTIALS_DIRECTORY": str(secret_file.parent)}, file=secret_file) == SECRET
    with pytest.raises(UsageError, match="others may read"):
        find({"CREDENTIALS_DIRECTORY": str(secret_file.parent / "other")}, file=secret_file)


def test_a_pipe_is_fine(tmp_path: Path) -> None:
    """A password can come through a pipe, as from a shell's <(…)."""
    reading, writing = os.pipe()
    os.write(writing, f"{SECRET}\n".encode())
    os.close(writing)
    try:
        assert find(file=f"/dev/fd/{reading}") == SECRET
    finally:
        os.close(reading)


@pytest.mark.parametrize("data", [b"", b"\n", b"  \r\n", b"\t"])
def test_an_empty_password_is_refused(secret_file: Path, data: bytes) -> None:
    """Nothing, or only white space, is no password wherever it comes from."""
    secret_file.write_bytes(data)
    with pytest.raises(UsageError, match="is empty"):
        find(file=secret_file)
    with pytest.raises(UsageError, match="is empty"):
        find(command=["cat", str(secret_file)])
    with pytest.raises(UsageError, match="is empty"):
        find(ask=lambda: Secret(data.decode()))
    if data:
        with pytest.raises(UsageError, match="is empty"):
            find({"BACKUP_PASSWORD": data.decode()})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, secret_file: Path) -> None:
    """A password file that is absent, a folder, or much too long is an error of use."""
    for path, words in ((tmp_path / "absent", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(UsageError, match=words) as caught:
            find(file=path)
        assert caught.value.exit_code == 2
    secret_file.write_bytes(b"x" * 70_000)
    with pytest.raises(UsageError, match="that is no password"):
        find(file=secret_file)


def test_a_command_is_words_and_no_shell(tmp_path: Path) -> None:
    """A password command is split as a shell would, but nothing in it is expanded or run by one."""
    assert find(command="echo 'two  words' $HOME;id") == "two  words $HOME;id"
    assert find(command=("echo", "$(id)", "`id`")) == "$(id) `id`"
    for odd in ("", " ", "echo 'x"):
        with pytest.raises(UsageError, match="password command"):
            find(command=odd)


def test_a_command_gets_no_password_and_no_input() -> None:
    """Programs that are started see no password in their environment and cannot wait for input."""
    env = {
        "BACKUP_PASSWORD": "a",
        "BACKUP_PASSWORD_FILE": "b",
        "BACKUP_PASSWORD_COMMAND": "c",
        "BACKUP_CONFIG": "d",
        "BACKUP_REST_PASSWORD": "e",
    }
    assert child_environment(env) == {"BACKUP_CONFIG": "d"}
    seen = script("import os, sys", "print(sorted(name for name in os.environ if 'BACKUP' in name), repr(sys.stdin.read()))")
    assert run_secret_command(seen, {**os.environ, **env}).reveal() == "['BACKUP_CONFIG'] ''"


def test_a_failing_command_is_told_by_its_exit_code_only(capfd: pytest.CaptureFixture[str]) -> None:
    """When a command fails, its exit code is told and nothing of what it printed, to nobody."""
    failing = script("import sys", f"print({SECRET!r})", f"print({SECRET!r}, file=sys.stderr)", "sys.exit(3)")
    with pytest.raises(UsageError, match="failed with exit code 3") as caught:
        find(command=failing)
    assert "Pferd" not in "".join(traceback.format_exception(caught.value)).replace(failing[2], "")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UsageError, match="cannot be started: no such file"):
        find(command="no-such-program-here")


@pytest.mark.parametrize("lines", [["import time", "time.sleep(60)"], ["import subprocess", "subprocess.run(['sleep', '60'])"]])
def test_a_command_that_hangs_is_ended(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that takes too long is ended and told, also when a program of its own keeps the pipe open."""
    monkeypatch.setattr(credentials, "TIME_LIMIT", 0.5)
    started = time.monotonic()
    with pytest.raises(UsageError, match="took longer than"):
        find(command=script(*lines))
    assert time.monotonic() - started < 10


def test_the_keyring_names_its_alternatives(memory: Memory) -> None:
    """An entry that is not there, or a machine without keyring, says what to do."""
    with pytest.raises(ConfigError, match='no entry "notes"') as caught:
        read_keyring("notes")
    assert caught.value.hint.endswith("keyring set backup-tool notes")
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match="no keyring") as without:
        read_keyring("notes")
    assert "password_file" in without.value.hint


def test_a_secret_never_shows_itself(secret_file: Path) -> None:
    """What was found prints as three stars, in text, logs and tracebacks."""
    found = read_secret_file(secret_file, {})
    assert f"{found} {found!r} {found:>9}" == "*** *** ***"
    assert found.reveal() == SECRET


def test_of_a_sources_key_the_cure_names_the_sources_settings(memory: Memory) -> None:
    """What is wrong with the key of a source never sends anybody to the settings of the repository."""
    failing = script("raise SystemExit(3)")
    for command in (failing, "", "/nowhere/x", script("pass")):
        with pytest.raises(UsageError) as caught:
            run_secret_command(command, {}, "key")
        assert "key command" in caught.value.message
        assert "password" not in caught.value.message + caught.value.hint
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match="no keyring") as without:
        read_keyring("whatsapp", "key")
    assert without.value.hint == "use key_command or key_file instead"


def test_a_keyring_that_encrypts_nothing_is_refused(memory: Memory) -> None:
    """A keyring that would keep the password in a plain file is not used, even where another library brought it along."""
    from keyring.backends.chainer import ChainerBackend
    from keyrings.alt.file import PlaintextKeyring

    class Chain(ChainerBackend):  # type: ignore[misc, no-untyped-call, unused-ignore]
        backends = (PlaintextKeyring(),)

    for plain in (PlaintextKeyring(), Chain()):  # type: ignore[no-untyped-call]
        keyring.set_keyring(plain)
        with pytest.raises(UsageError, match="unencrypted") as caught:
            read_keyring("notes")
        assert "password_command" in caught.value.hint
