"""The proxy of the tests itself: who is let through, what becomes of bodies, and how a test spoils a request."""

from __future__ import annotations

import http.client
import random
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.destinations import tls_proxy
from tests.destinations.tls_proxy import Fault, Request, Response


class _Echo:
    """A service that answers with what it got."""

    def label(self, request: Request) -> str:
        return "echo"

    def answer(self, request: Request) -> Response:
        return Response(200, {"X-Method": request.method, "X-Size": str(request.size)}, request.body.read())


def opener(proxy: tls_proxy.Proxy, context: ssl.SSLContext | None = None) -> urllib.request.OpenerDirector:
    """A client of this process that uses the proxy, and trusts its authority unless told otherwise."""
    context = context or ssl.create_default_context(cafile=str(proxy.authority.file))
    handlers = [urllib.request.ProxyHandler({"http": proxy.url, "https": proxy.url}), urllib.request.HTTPSHandler(context=context)]
    return urllib.request.build_opener(*handlers)


def test_the_proxy_lets_nobody_else_be_reached(tmp_path: Path) -> None:
    """Whatever else a program tries to reach is refused and on record, encrypted or not."""
    with tls_proxy.serving(tmp_path, {"*.example.org": _Echo()}) as proxy:
        for url in ("https://example.org/x", "http://one.example.org/y", "https://one.example.org:444/"):
            with pytest.raises(urllib.error.URLError):
                opener(proxy).open(url, timeout=10)
    assert proxy.refused == ["example.org:443", "http://one.example.org/y", "one.example.org:444"]


def test_a_client_that_does_not_know_the_authority_goes(tmp_path: Path) -> None:
    """Certificates of the proxy are worth nothing outside the test's environment, and the proxy says who did not trust them."""
    service, refused = {"one.example.org": _Echo()}, pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED")
    with tls_proxy.serving(tmp_path, service) as proxy, refused:
        opener(proxy, ssl.create_default_context()).open("https://one.example.org/", timeout=10)
    assert proxy.untrusting == ["one.example.org"]


def test_bodies_of_any_size_and_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long bodies and bodies in chunks of unknown number pass through as they are, on one connection."""
    with tls_proxy.serving(tmp_path, {"*.example.org": _Echo()}) as proxy:
        address = urlsplit(proxy.url)
        context = ssl.create_default_context(cafile=str(proxy.authority.file))
        connection = http.client.HTTPSConnection(str(address.hostname), address.port, context=context, timeout=30)
        connection.set_tunnel("one.example.org", 443)
        content = random.Random(0).randbytes(5 << 20)
        for chunked in (False, True):
            pieces = (content[at : at + 70_001] for at in range(0, len(content), 70_001))
            connection.request("PUT", "/", pieces if chunked else content, encode_chunked=chunked)
            assert connection.getresponse().read() == content
        connection.request("HEAD", "/")
        assert connection.getresponse().getheader("X-Method") == "HEAD"
        connection.close()
        assert (proxy.tunnels, proxy.labels()) == (1, ["echo"] * 3)


def test_a_service_with_a_bug_fails_the_test(tmp_path: Path) -> None:
    """What goes wrong inside a played host is no network trouble: it comes out at the end."""

    class Broken(_Echo):
        def answer(self, request: Request) -> Response:
            raise KeyError("bug")

    def meet() -> None:
        with tls_proxy.serving(tmp_path, {"one.example.org": Broken()}) as proxy, pytest.raises(OSError, match=r"."):
            opener(proxy).open("https://one.example.org/", timeout=10)

    with pytest.raises(KeyError, match="bug"):
        meet()


def test_certificates_are_as_strict_clients_want_them(tmp_path: Path) -> None:
    """Newer Pythons check every extension of a certificate; these pass."""
    with tls_proxy.serving(tmp_path, {"one.example.org": _Echo()}) as proxy:
        context = ssl.create_default_context(cafile=str(proxy.authority.file))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        assert opener(proxy, context).open("https://one.example.org/", b"x", timeout=10).read() == b"x"


def test_a_lost_network_ends_every_connection(tmp_path: Path) -> None:
    """All connections can be cut at once; a client may come again."""
    with tls_proxy.serving(tmp_path, {"one.example.org": _Echo()}) as proxy:
        proxy.on_effect = lambda label: proxy.cut()
        with pytest.raises(OSError, match=r"."):
            opener(proxy).open("https://one.example.org/", b"x", timeout=10)
        proxy.on_effect = lambda label: None
        assert opener(proxy).open("https://one.example.org/", b"x", timeout=10).read() == b"x"


def test_faults_by_chance_are_the_same_for_the_same_seed() -> None:
    """A run with random faults can be repeated."""

    def chosen(seed: int) -> list[str]:
        faults = tls_proxy.Faults()
        faults.randomly(seed, 0.1, [Fault("reset"), Fault("drop", effect=True)], labels="files.*")
        return [fault.kind if (fault := faults.pick("files.list")) else "" for _ in range(1000)]

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert 50 < sum(map(bool, chosen(1))) < 150
