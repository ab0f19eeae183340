"""The house keeps its own rules: which room may import which, what start-up loads, who may print, what the lock holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
HEAVY = ["av", "keyring", "googleapiclient", "pyicloud", "tqdm", "cryptography", "zstandard", "rich", "numpy", "httpx", "pydantic"]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "backup_tool").rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_bytes())


def called(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every call in a module as (name as written, line): ("sys.exit", 12)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def test_imports_run_downwards_and_each_library_has_one_door(capfd: pytest.CaptureFixture[str]) -> None:
    """A room never imports one above it or beside it, and each outside library is known in one place only."""
    broken = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert not broken, capfd.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["restore", "--help"], ["--version"]])
def test_help_comes_at_once(words: list[str]) -> None:
    """Asking for help loads none of the libraries that only real work needs."""
    script = (
        "import sys\n"
        f"sys.argv = ['backup', *{words!r}]\n"
        "from backup_tool.cli import main\n"
        "try:\n    code = main()\n"
        "except SystemExit as stop:\n    code = stop.code\n"
        f"print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr.splitlines()[-1] == "loaded:"


def test_only_the_command_line_prints_prompts_or_exits() -> None:
    """A job can be called from anywhere: it never writes to the terminal, asks, or ends the program."""
    forbidden = {"print", "input", "exit", "quit", "sys.exit", "os._exit", "getpass.getpass", "sys.stdout.write", "sys.stderr.write"}
    found = [
        f"{path}:{line}: {name}"
        for path, tree in modules()
        if not path.startswith(("backup_tool/cli/", "backup_tool/__main__"))
        for name, line in called(tree)
        if name in forbidden
    ]
    assert not found


def test_archives_from_outside_are_never_unpacked_whole() -> None:
    """No zip or tar from outside is extracted by a library that believes the names in it."""
    whole = (".extractall", ".unpack_archive")
    found = [f"{path}:{line}: {name}" for path, tree in modules() for name, line in called(tree) if name.endswith(whole)]
    assert not found


def test_every_test_says_what_it_promises() -> None:
    """Each test's docstring is one sentence on what a user may count on."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert not silent


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_pins_everything_by_hash(lock: str) -> None:
    """Whatever is installed is exactly what was tested: each package has one version and its hashes, from no particular server."""
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=[a-z])", text)[1:]
    pinned = {re.split(r"[=\[]", entry)[0] for entry in entries}
    assert all(re.match(r"[a-z0-9-]+(\[[a-z0-9,]+\])?==\S+.*\\\n    --hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + (project["dependency-groups"]["dev"] if "dev" in lock else [])
    assert {re.split(r"[<>=\[; ]", name)[0] for name in wanted} <= pinned
