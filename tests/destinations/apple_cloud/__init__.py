"""An Apple of our own: the sign-in, the second factors and the Drive of iCloud, on loopback, for the tests of the iCloud destination.

    with serving(tmp_path, Account("me@example.org", "password")) as (apple, proxy):
        subprocess.run([...], env=os.environ | proxy.environment())           any client of Apple's, as it is
        assert [prompt.kind for prompt in apple.prompts] == ["sms"]
        code = apple.last_code()
        assert set(apple.objects()) == {"Voice notes/config", …}               path in the Drive -> file on this disk
        assert not apple.duplicates() and not apple.complaints and not proxy.refused

It is modelled on what pyicloud 2026.10.1 sends and reads, on what rclone's iclouddrive does, on RFC 5054 (SRP) and RFC 6455 (WebSocket),
and on public reports of how Apple answers. Both programs are run against it unmodified, through a proxy that ends TLS (`tls_proxy`), under
Apple's own host names: see `test_apple_server`.

    account.py    what each account is like: second factor, China, terms, locked, Advanced Data Protection, quota, how long trust lasts
    sign_in.py    idmsa: SRP, codes by push and text message, trust
    bridge.py     the prompt on a trusted device; push.py: the service that announces it; sealed.py: a code that never leaves the device
    web_setup.py  cookies, the map of web services, terms, protected data, storage
    drive.py      one account's Drive: folders.py lists and moves, documents.py takes bytes and gives them, tree.py keeps them on disk
    manner.py     how a Drive behaves where Apple's way varies or is not known
    faults.py     what goes wrong on the way, by name
    wire.py       requests and answers

Read by tests: `apple.prompts` (codes and questions that reached a person), `wrong_passwords`, `wrong_codes`, `complaints` (what a
well-behaved client would not do), `objects()`, `duplicates()`, `drive().committed`, `.uploaded`, `.replayed`, `.removed`; `proxy.seen`
(every request) and `proxy.refused` (every other host). Set by tests: the fields of an `Account`, `drive().manner`, `later(days=…)`,
`end_web_sessions()`, `end_trust()`, `misdirect()`, `trusted_session()`, `code_from_settings()`, `drive().put(…)`, `.library(…)`,
`.shared(…)`.

What only a real account can show, since nobody outside Apple has published it: what createFolders and a commit with `allow_conflict: false`
do with a taken name; for how many days a session token alone is taken; whether trust can be renewed without a code; how many folders one
listing may name; how a full account says so, and when the trash counts; how long a listing lags; how many sign-ins are too many; how long a
code may take; which of two encodings a password's proof wants. Each of these is a setting here, or both ways are right, and the default is
a report or the safer guess. Not played: security keys beyond "there is one", sign-in at a company's page, two-step verification of old.
"""

from tests.destinations.apple_cloud.account import Account
from tests.destinations.apple_cloud.drive import Drive
from tests.destinations.apple_cloud.faults import FAULTS, PASSING
from tests.destinations.apple_cloud.manner import Manner
from tests.destinations.apple_cloud.server import Apple, Prompt, serving

__all__ = ["FAULTS", "PASSING", "Account", "Apple", "Drive", "Manner", "Prompt", "serving"]
