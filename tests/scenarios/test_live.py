"""A round at a real service, with an account of whoever runs the tests. Without LIVE_DESTINATION or LIVE_EMAIL there is none, and none is
skipped.

LIVE_CONFIG       a settings file with the destination; its folder is one for this test alone, and is best removed afterwards
LIVE_DESTINATION  its name there
LIVE_STATE        the state folder (BACKUP_STATE_DIR) in which `backup login NAME` was done; none is needed where nobody signs in

LIVE_EMAIL        whom to send mail to, as [email] of the settings says

LIVE_CONFIG=~/live.toml LIVE_DESTINATION=drive LIVE_STATE=~/live pytest tests/scenarios/test_live.py
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.generators.android import CURRENT, Store
from tests.generators.ogg import opus_note
from tests.scenarios.world import World

_PASSED_ON = ("https_proxy", "HTTPS_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

if "LIVE_DESTINATION" in os.environ:

    def test_a_real_account(tmp_path: Path) -> None:
        """At the real service an archive is made, filled, added to, proven and read back byte for byte, also a part of one object."""
        world, name = World(tmp_path / "laptop"), os.environ["LIVE_DESTINATION"]
        env: Mapping[str, str | None] = {
            "BACKUP_CONFIG": os.environ["LIVE_CONFIG"],
            "BACKUP_REPOSITORY": name,
            "BACKUP_STATE_DIR": os.environ.get("LIVE_STATE", str(world.folder / "state")),
            **{variable: os.environ.get(variable) for variable in _PASSED_ON},
        }
        store = Store(world.folder / "phone" / CURRENT)
        store.database(store.voice_notes(6))
        world.backup("init", env=env)
        assert world.run("phone", env=env)["new"] == 6
        assert world.run("phone", env=env)["unchanged"] == 6
        world.backup("check", "--read-data", env=env)
        world.backup(
            "extract", "latest", "--to", world.folder / "one.opus", env={**env, "BACKUP_CACHE_DIR": str(tmp_path / "other machine")}
        )
        world.backup("restore", "--to", world.folder / "back", env=env)
        had = sorted(file.read_bytes() for file in (world.folder / "phone").rglob("*.opus"))
        assert sorted(file.read_bytes() for file in (world.folder / "back").rglob("*.opus")) == had
        assert (world.folder / "one.opus").read_bytes() in had
        if "gdrive" in world.backup("config", "show", env=env).text:
            assert world.backup("check", "--remote", "--json", env=env).json["unconfirmed"] == 0


if "LIVE_EMAIL" in os.environ:

    def test_real_mail(tmp_path: Path) -> None:
        """A short mail and one of several megabytes are taken; that both arrived, once and whole, is for their receiver to see."""
        world, to = World(tmp_path / "laptop"), os.environ["LIVE_EMAIL"]
        env: Mapping[str, str | None] = {
            "BACKUP_CONFIG": os.environ["LIVE_CONFIG"],
            "BACKUP_STATE_DIR": os.environ.get("LIVE_STATE", str(world.folder / "state")),
            **{variable: os.environ.get(variable) for variable in _PASSED_ON},
        }
        assert world.backup("email", "test", "--to", to, "--json", env=env).json["to"] == to
        (world.folder / "notes").mkdir()
        (world.folder / "notes/long.opus").write_bytes(opus_note(2000.0))
        world.backup("init")
        world.run("notes")
        [sent] = world.backup("extract", "latest", "--format", "original", "--email", to, "--json", env=env).json["mails"]
        assert (sent["to"], sent["refused"]) == ([to], [])
