"""A person's browser: opens the address it is given, follows redirects, and ends. For the environment variable BROWSER.

python browser.py ADDRESS           as a browser does that also asks for an icon before it follows
"""

from __future__ import annotations

import contextlib
import sys
import urllib.error
import urllib.request
from urllib.parse import urljoin, urlsplit


class _IconFirst(urllib.request.HTTPRedirectHandler):
    """Before it goes to another place, a browser may ask there for an icon, or for the page without the query."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(newurl).hostname in ("127.0.0.1", "localhost"):
            for stray in ("/favicon.ico", "/"):
                with contextlib.suppress(urllib.error.URLError, OSError):
                    urllib.request.urlopen(urljoin(newurl, stray), timeout=10).close()  # noqa: S310
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def main(address: str) -> None:
    """Open an address."""
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.build_opener(_IconFirst).open(address, timeout=60).close()


if __name__ == "__main__":
    main(sys.argv[1])
