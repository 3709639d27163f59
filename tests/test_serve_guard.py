"""What `serve` refuses, asked over real connections of a real server with a tiny application behind the guard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipsearch.errors import DamagedError, NoLibraryError, StoppedError, UnsupportedImageError, UsageError
from clipsearch.export.options import as_options
from clipsearch.serve import problems, token
from clipsearch.serve.guard import Guard, Policy, allowed_hosts

TOKEN = "correct-horse-battery-staple-0123456789"
JSON = {"Content-Type": "application/json"}
REFUSED = {400, 401, 403, 413, 415, 421}


class Echo:
    """Answers with what reached it; counts the requests and the bytes of bodies."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.bytes = 0
        self.disconnected = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        self.requests.append(f"{scope['method']} {scope['path']}")
        if scope["path"].startswith("/api/broken"):
            raise ValueError(scope["query_string"])
        size, more = 0, scope["path"] != "/api/deaf"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                raise ClientDisconnect
            size += len(message.get("body", b""))
            self.bytes += len(message.get("body", b""))
            more = message.get("more_body", False)
        told = {name: scope[name] for name in ("path", "root_path", "scheme")} | {"size": size}
        headers = [(b"content-type", b"application/json"), (b"access-control-allow-origin", b"*")]
        if scope["path"] == "/api/kept":
            headers += [(b"cache-control", b"private, max-age=60"), (b"Content-Security-Policy", b"default-src *")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})


@dataclass
class Site:
    app: Echo
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        return self.ask("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, content: bytes | Iterator[bytes] = b""
    ) -> httpx.Response:
        return httpx.request(method, self.url + path, headers=headers, content=content, trust_env=False, timeout=30)

    def raw(self, request: bytes) -> bytes:
        """The whole response to what is sent over a plain socket, until the server closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request.replace(b"\n", b"\r\n"))
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextlib.contextmanager
def listening(app: ASGIApp) -> Iterator[int]:
    """A server in a thread; yields its port."""
    off = {"access_log": False, "server_header": False, "proxy_headers": False}
    config = uvicorn.Config(app, port=0, http="h11", ws="none", log_level="error", **off)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def serving(**changes: object) -> Iterator[Site]:
    app = Echo()
    policy = replace(Policy(allowed_hosts("127.0.0.1", ["photos.example"]), 8000, max_body=100_000), **changes)
    with listening(Guard(app, policy)) as port:
        yield Site(app, port)


@pytest.fixture(scope="module")
def open_site() -> Iterator[Site]:
    """On loopback, without a token."""
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def locked_site() -> Iterator[Site]:
    """With a token."""
    with serving(token=TOKEN) as site:
        yield site


@pytest.fixture
def site(open_site: Site) -> Iterator[Site]:
    open_site.app.requests.clear()
    yield open_site


@pytest.fixture
def locked(locked_site: Site) -> Iterator[Site]:
    locked_site.app.requests.clear()
    yield locked_site


# Host


@pytest.mark.parametrize("path", ["/", "/healthz", "/assets/page.css", "/api/v1/search?q=a", "/nowhere"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "localhost.evil.example.",
        "127.0.0.1.nip.io",
        "notlocalhost",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::2]:8000",
        "photos.example.evil.example",
        "xphotos.example",
    ],
)
def test_other_hosts_are_refused_everywhere(site: Site, host: str, path: str) -> None:
    response = site.get(path, host=host)
    assert response.status_code == 421 and response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 421 and not site.app.requests


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "localhost.",
        "localhost.:8000",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8000",
        "[0:0::0:1]",
        "photos.example",
        "PHOTOS.example.:443",
        "localhost:",
    ],
)
def test_allowed_hosts_in_any_spelling(site: Site, host: str) -> None:
    assert site.get("/", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":8000",
        ".",
        "localhost..",
        ".localhost",
        "localhost:x",
        "localhost:8000:8000",
        "localhost/evil.example",
        "evil.example#localhost",
        "evil.example@localhost",
        "localhost@evil.example",
        "localhost, evil.example",
        "localhost evil.example",
        "::1",
        "[::1",
        "[::1]evil.example",
        "[]",
        "[:::]",
        "[::1%25lo]",
        "local%68ost",
        "localhost\\evil.example",
        "localhost\t",
        "localhöst",
    ],
)
def test_malformed_hosts_are_refused(site: Site, host: str) -> None:
    raw = b"GET / HTTP/1.1\nHost: " + host.encode("latin-1") + b"x" * (host == "localhost\t") + b"\n\n"
    assert site.raw(raw).split()[1] in (b"400", b"421")
    assert not site.app.requests


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET / HTTP/1.1\n\n",
        b"GET / HTTP/1.0\n\n",
        b"GET /healthz HTTP/1.0\n\n",
        b"GET / HTTP/1.1\nHost: localhost\nHost: localhost\n\n",
        b"GET / HTTP/1.1\nHost: localhost\nHost: evil.example\n\n",
        b"GET / HTTP/1.0\nHost: localhost\nhOST: evil.example\n\n",
        b"GET http://evil.example/ HTTP/1.1\nHost: localhost\n\n",
        b"GET http://localhost/ HTTP/1.1\nHost: evil.example\n\n",
        b"GET evil.example/ HTTP/1.1\nHost: localhost\n\n",
        b"CONNECT localhost:80 HTTP/1.1\nHost: localhost\n\n",
        b"OPTIONS * HTTP/1.1\nHost: localhost\n\n",
        b"GET / HTTP/1.1\n Host: localhost\n\n",
        b"GET / HTTP/1.1\nHost : localhost\n\n",
        b"GET / HTTP/1.1\nX: y\n Host: localhost\n\n",
    ],
)
def test_requests_that_name_no_host_or_two_are_refused(site: Site, request_text: bytes) -> None:
    assert site.raw(request_text).split()[1] in (b"400", b"421")
    assert not site.app.requests


def test_forwarded_headers_count_for_nothing_without_a_proxy(site: Site) -> None:
    forwarded = {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https", "Forwarded": "host=localhost"}
    assert site.ask("GET", "/", {"Host": "evil.example", **forwarded}).status_code == 421
    response = site.ask("GET", "/", {**forwarded, "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"})
    assert response.status_code == 200 and response.json() == {
        "path": "/",
        "root_path": "",
        "scheme": "http",
        "size": 0,
    }
    origin = {"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"}
    assert site.ask("POST", "/api/x", JSON | origin, b"{}").status_code == 403


def test_behind_a_proxy_every_host_must_be_allowed() -> None:
    with serving(behind_proxy=True) as site:
        ask = site.get
        assert ask("/", host="photos.example", x_forwarded_host="photos.example").status_code == 200
        assert ask("/", x_forwarded_host="photos.example").status_code == 200
        for hosts in ("evil.example", "localhost, evil.example", "evil.example, localhost", "localhost,", ""):
            assert ask("/", x_forwarded_host=hosts).status_code in (400, 421), hosts
        assert ask("/", host="evil.example", x_forwarded_host="localhost").status_code == 421
        assert ask("/", x_forwarded_proto="https").json()["scheme"] == "https"
        assert ask("/", x_forwarded_proto="HTTPS, http").json()["scheme"] == "https"
        assert ask("/", x_forwarded_proto="javascript").json()["scheme"] == "http"
        public = JSON | {"X-Forwarded-Host": "photos.example"}
        for origin, status in (("https://photos.example", 200), (site.url, 403), ("https://photos.example:1", 403)):
            assert site.ask("POST", "/api/x", public | {"Origin": origin}, b"{}").status_code == status, origin


# Other pages in the browser


@pytest.mark.parametrize("place", ["cross-site", "same-site", "Same-Origin", "", "same-origin, cross-site", "strange"])
def test_requests_from_other_sites_are_refused(site: Site, place: str) -> None:
    subresources = [("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe")]
    subresources += [("navigate", "object"), ("navigate", ""), ("websocket", "websocket"), ("same-origin", "document")]
    for mode, target in subresources:
        for path in ("/", "/api/v1/search", "/healthz", "/assets/page.js"):
            fetch = {"sec_fetch_site": place, "sec_fetch_mode": mode, "sec_fetch_dest": target}
            assert site.get(path, **fetch).status_code == 403, (path, fetch)
    assert site.get("/", sec_fetch_site=place).status_code == 403
    assert not site.app.requests


@pytest.mark.parametrize("place", ["cross-site", "same-site"])
def test_links_from_other_sites_lead_to_the_page_only(site: Site, place: str) -> None:
    top = {"Sec-Fetch-Site": place, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert site.ask("GET", "/?q=a", top).status_code == 200
    for path in ("/api/v1/images/1/file", "/api", "/assets/page.css", "/healthz", "//", "/%2e/", "/index.html"):
        assert site.ask("GET", path, top).status_code == 403, path
    for method in ("POST", "HEAD", "OPTIONS", "PUT"):
        assert site.ask(method, "/", top | JSON, b"{}").status_code == 403, method
    for extra in ("Sec-Fetch-Dest: iframe", "Sec-Fetch-Dest: document", "Sec-Fetch-Mode: no-cors"):
        lines = [f"{name}: {value}" for name, value in top.items()] + [extra]
        raw = "GET / HTTP/1.1\nHost: localhost\n" + "\n".join(lines) + "\n\n"
        assert site.raw(raw.encode()).startswith(b"HTTP/1.1 403"), extra


def test_requests_of_the_own_page_and_of_the_user_pass(site: Site) -> None:
    assert site.get("/api/v1/search", sec_fetch_site="same-origin", sec_fetch_mode="cors").status_code == 200
    assert site.get("/", sec_fetch_site="none", sec_fetch_mode="navigate").status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://localhost:{port}",
        "http://127.0.0.1:{port}.evil.example",
        "http://user@127.0.0.1:{port}",
        "http://127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}",
        "127.0.0.1:{port}",
        "http://evil.example http://127.0.0.1:{port}",
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "OPTIONS", "QUERY"])
def test_changes_from_other_origins_are_refused(site: Site, method: str, origin: str) -> None:
    headers = JSON | {"Origin": origin.format(port=site.port)}
    assert site.ask(method, "/api/v1/index", headers, b"{}").status_code == 403
    assert not site.app.requests


def test_changes_from_the_own_origin_and_from_programs_pass(site: Site) -> None:
    for origin in ({"Origin": site.url}, {"Origin": site.url.replace("http", "HTTPS")}, {}):
        assert site.ask("POST", "/api/x", JSON | origin, b"{}").json()["size"] == 2
    twice = f"Host: 127.0.0.1:{site.port}\nOrigin: {site.url}\nOrigin: http://evil.example\n"
    raw = f"POST /api/x HTTP/1.1\n{twice}Content-Type: application/json\nContent-Length: 2\n\n{{}}"
    assert site.raw(raw.encode()).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "application/jsonp",
        "application/json+x",
        "image/png",
        "application/octet-stream",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_forms_can_send_is_refused(site: Site, method: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert site.ask(method, "/api/v1/index", headers, b'{"a": 1}').status_code == 415
    assert not site.app.requests


def test_the_own_types_pass(site: Site) -> None:
    for kind in ("application/json", "Application/JSON ; charset=utf-8"):
        assert site.ask("POST", "/api/x", {"Content-Type": kind}, b"{}").status_code == 200
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert site.ask("POST", "/api/x", form | {"X-Clipsearch": "1"}, b"--x--").status_code == 200
    two = b"POST /api/x HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Type: application/json\n"
    assert site.raw(two + b"Content-Length: 2\n\n{}").startswith(b"HTTP/1.1 415")


def test_no_preflight_succeeds(site: Site) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    response = site.ask("OPTIONS", "/api/v1/search", asked)
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_web_sockets_are_refused(site: Site) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Origin": site.url}
    asked = site.ask("GET", "/api", upgrade | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert asked.status_code != 101


def test_web_sockets_of_other_servers_are_refused() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    guard = Guard(Echo(), Policy(allowed_hosts("localhost"), 8000))
    asyncio.run(guard({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


# Headers


@pytest.mark.parametrize("path, status", [("/", 200), ("/api/kept", 200), ("/x", 421)])
def test_every_response_has_the_headers(site: Site, path: str, status: int) -> None:
    response = site.ask("GET", path, {"Host": "evil.example"} if status == 421 else {})
    assert response.status_code == status
    headers = response.headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert "form-action 'self'" in policy and "base-uri 'none'" in policy and "*" not in policy
    assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("private, max-age=60" if path == "/api/kept" else "no-store")
    assert "server" not in headers and not [name for name in headers if name.startswith("access-control")]
    assert len(headers.get_list("content-security-policy")) == 1


# Bodies


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(0, size, 10_000):
        yield b"x" * 10_000


def test_bodies_up_to_the_limit_pass(site: Site) -> None:
    assert site.ask("POST", "/api/x", JSON, b"x" * 100_000).json()["size"] == 100_000
    assert site.ask("POST", "/api/x", JSON, chunks(100_000)).json()["size"] == 100_000


def test_a_body_over_the_limit_is_not_read(site: Site) -> None:
    response = site.ask("POST", "/api/x", JSON, b"x" * 100_001)
    assert response.status_code == 413 and response.headers["connection"] == "close"
    assert response.json()["title"] and not site.app.requests
    expecting = b"POST / HTTP/1.1\nHost: localhost\nContent-Type: application/json\nExpect: 100-continue\n"
    assert site.raw(expecting + b"Content-Length: 99999999\n\n").startswith(b"HTTP/1.1 413")
    assert site.ask("GET", "/", {}, b"x" * 100_001).status_code == 413


@pytest.mark.parametrize("size", [110_000, 5_000_000])
def test_a_chunked_body_over_the_limit_is_cut(site: Site, size: int) -> None:
    before = site.app.bytes
    site.app.disconnected.clear()
    response = site.ask("POST", "/api/x", JSON, chunks(size))
    assert response.status_code == 413 and response.headers["connection"] == "close"
    assert site.app.disconnected.wait(30) and site.app.bytes - before <= 100_000
    assert site.get("/").status_code == 200


def test_a_client_that_goes_away_is_no_error(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.app.disconnected.clear()
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        head = "POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        connection.sendall(head.encode() + b"{")
    assert site.app.disconnected.wait(30)
    assert site.get("/").status_code == 200 and not caplog.records


def test_one_chunk_over_the_limit(site: Site) -> None:
    head = b"POST /api/x HTTP/1.1\nHost: localhost\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n"
    assert site.raw(head + b"18700\n" + b"x" * 0x18700 + b"\n0\n\n").startswith(b"HTTP/1.1 413")


def test_a_refused_connection_is_closed_though_the_client_keeps_sending(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(b"POST /api/x HTTP/1.1\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -1",
        b"Content-Length: 2x",
        b"Content-Length: 2\nContent-Length: 3",
        b"Content-Length: 99999999999999999999999999",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked\nTransfer-Encoding: x",
    ],
)
def test_malformed_lengths_are_refused(site: Site, head: bytes) -> None:
    raw = b"POST /api/x HTTP/1.1\nHost: localhost\nContent-Type: application/json\n" + head + b"\n\n{}"
    assert site.raw(raw).split()[1] in (b"400", b"413", b"501")
    assert not site.app.requests


# The token


def test_the_address_with_the_token_signs_in(locked: Site) -> None:
    response = locked.get(f"/?q=a%26b&token={TOKEN}&k=5&q=%22x%22")
    assert response.status_code == 303 and response.headers["location"] == "./?q=a%26b&k=5&q=%22x%22"
    assert response.headers["set-cookie"] == f"clipsearch-8000={TOKEN}; HttpOnly; SameSite=Lax; Path=/"
    assert response.headers["cache-control"] == "no-store" and not locked.app.requests
    assert locked.get(f"/?token={TOKEN}").headers["location"] == "./"
    with httpx.Client(base_url=locked.url, follow_redirects=True, trust_env=False) as browser:
        assert browser.get("/").status_code == 401
        opened = browser.get(f"/?token={TOKEN}&q=a")
        assert opened.status_code == 200 and opened.url == f"{locked.url}/?q=a"
        for path in ("/", "/api/v1/search", "/assets/page.css"):
            assert browser.get(path).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "token=wrong",
        "token=",
        "token",
        f"token={TOKEN}x",
        f"token={TOKEN[:-1]}",
        f"Token={TOKEN}",
        f"xtoken={TOKEN}",
        f"q=token={TOKEN}",
        "token=%ff%00%0d%0a",
        "token=höhö",
    ],
)
def test_a_wrong_token_in_the_address_is_refused(locked: Site, query: str) -> None:
    response = locked.get(f"/?{query}")
    assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"].startswith("text/html") and "clipsearch serve" in response.text
    assert TOKEN not in response.text and "set-cookie" not in response.headers
    assert locked.ask("GET", f"/?{query}", {"Authorization": "Bearer wrong"}).status_code == 401
    assert not locked.app.requests


@pytest.mark.parametrize(
    "path", ["/api/v1/search", "/assets/page.css", "/nowhere", "//", "/%2e", "/healthz/", "//healthz"]
)
def test_only_the_page_accepts_a_token_in_its_address(locked: Site, path: str) -> None:
    response = locked.get(f"{path}?token={TOKEN}")
    assert response.status_code == 401 and response.headers["content-type"] == "application/problem+json"
    assert locked.ask("POST", f"/?token={TOKEN}", JSON, b"{}").status_code == 401
    assert locked.ask("HEAD", f"/?token={TOKEN}").status_code == 401
    assert not locked.app.requests


def test_only_liveness_needs_no_token(locked: Site) -> None:
    assert locked.get("/healthz").status_code == 200
    for path in ("/", "/api/v1/status", "/assets/page.css", "/favicon.ico", "/healthz/x", "/%68ealthz/", "/HEALTHZ"):
        assert locked.get(path).status_code == 401, path


def test_programs_send_the_token_as_bearer(locked: Site) -> None:
    for value in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN}"):
        assert locked.get("/api/x", authorization=value).status_code == 200
        assert locked.ask("POST", "/api/x", JSON | {"Authorization": value}, b"{}").status_code == 200
    for value in (TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN} {TOKEN}", f"Bearer,{TOKEN}"):
        assert locked.get("/api/x", authorization=value).status_code == 401, value


def test_cookies(locked: Site) -> None:
    for good in (f"clipsearch-8000={TOKEN}", f"a=b;clipsearch-8000={TOKEN} ; c", f'x="; clipsearch-8000={TOKEN}'):
        assert locked.get("/api/x", cookie=good).status_code == 200, good
    for bad in (
        f"clipsearch-8001={TOKEN}",
        f"clipsearch={TOKEN}",
        f"clipsearch-8000={TOKEN[:-1]}",
        "clipsearch-8000",
        "=",
    ):
        assert locked.get("/api/x", cookie=bad).status_code == 401, bad


@pytest.mark.parametrize(
    "name", [b"Cookie: clipsearch-8000=", b"Authorization: Bearer ", b"Cookie: ", b"Authorization: "]
)
def test_no_bytes_in_credentials_break_the_server(locked: Site, name: bytes) -> None:
    for value in (b"\xff\xfe\x80", "ö€😀".encode(), b"=;=;=", b'"', b"\xc3"):
        raw = b"GET /api/x HTTP/1.1\nHost: localhost\n" + name + value + b"\n\n"
        assert locked.raw(raw).startswith(b"HTTP/1.1 401"), value


def test_a_token_does_not_replace_the_other_checks(locked: Site) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.ask("GET", "/", bearer | {"Host": "evil.example"}).status_code == 421
    assert locked.ask("GET", "/api/x", bearer | {"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert locked.ask("POST", "/api/x", bearer | JSON | {"Origin": "null"}, b"{}").status_code == 403
    assert locked.ask("POST", "/api/x", bearer, b"{}").status_code == 415
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert locked.ask("GET", f"/?token={TOKEN}", frame).status_code == 403


@pytest.mark.parametrize(
    "target, location",
    [
        (b"/?next=//evil.example&token=%s", b"./?next=//evil.example"),
        (b"/?%%0d%%0aSet-Cookie:x=y&token=%s", b"./?%0d%0aSet-Cookie:x=y"),
        (b"/?&&token=%s&", b"./?&&"),
        (b"/?tok%%65n=%s&token=wrong", b"./"),
        (b"/?token=%s&\\evil", b"./?\\evil"),
    ],
)
def test_the_redirect_stays_here_and_injects_nothing(locked: Site, target: bytes, location: bytes) -> None:
    response = locked.raw(b"GET " + target % TOKEN.encode() + b" HTTP/1.1\nHost: localhost\n\n")
    head = response.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0].startswith(b"HTTP/1.1 303") and b"location: " + location in head
    assert sum(line.lower().startswith(b"set-cookie") for line in head) == 1


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example", "//evil.example/%2e%2e", "/@evil.example"])
def test_other_paths_are_never_redirected(locked: Site, path: str) -> None:
    raw = f"GET {path}?token={TOKEN} HTTP/1.1\nHost: localhost\n\n".encode()
    assert locked.raw(raw).startswith(b"HTTP/1.1 401")


def test_under_a_root_path_the_cookie_and_the_redirect_stay_below_it() -> None:
    with serving(token=TOKEN, root_path="/a/photos", behind_proxy=True) as site:
        for path in ("/", "/a/photos/"):
            response = site.get(f"{path}?token={TOKEN}&q=a", x_forwarded_proto="https")
            assert response.status_code == 303 and response.headers["location"] == "/a/photos/?q=a"
            assert response.headers["set-cookie"].endswith("; HttpOnly; SameSite=Lax; Path=/a/photos; Secure")
        response = site.get(f"/a/photos?token={TOKEN}")
        assert response.status_code == 308 and response.headers["location"] == f"/a/photos/?token={TOKEN}"
        bearer = f"Bearer {TOKEN}"
        for path in ("/api/x", "/a/photos/api/x"):
            assert site.get(path, authorization=bearer).json()["root_path"] == "/a/photos"
        assert site.get("/a/photos/healthz").status_code == site.get("/healthz").status_code == 200
        for path in ("/a/photosx/healthz", "/a/healthz", "/a/photos//healthz", "/a/photos/a/photos/healthz"):
            assert site.get(path).status_code == 401, path
        assert "Secure" not in site.get(f"/?token={TOKEN}").headers["set-cookie"]


@pytest.mark.parametrize(
    "path", ["photos", "/photos/", "//evil", "/", "/a;b", "/a b", "/..", "/api", "/assets/x", "/ö"]
)
def test_malformed_root_paths(path: str) -> None:
    with pytest.raises(UsageError, match="root_path"):
        Policy(allowed_hosts("localhost"), 8000, root_path=path)


def test_a_server_without_a_token_asks_for_none(site: Site) -> None:
    response = site.get("/?token=anything&q=a")  # as kept from a server that had one
    assert response.status_code == 303 and response.headers["location"] == "./?q=a"
    assert "set-cookie" not in response.headers and site.get("/").status_code == 200
    assert "set-cookie" not in site.get("/").headers


# The list of hosts


def test_the_list_of_hosts() -> None:
    loopback = {"localhost", "127.0.0.1", "::1"}
    assert allowed_hosts("127.0.0.1") == loopback
    assert allowed_hosts("192.168.1.5", ["NAS.local.", "Büro.example"]) == loopback | {
        "192.168.1.5",
        "nas.local",
        "xn--bro-hoa.example",
    }
    assert allowed_hosts("::", ["[fe80:0::1]", "0:0::2"]) == loopback | {"::", "fe80::1", "::2"}


@pytest.mark.parametrize(
    "name", ["", "*", "*.example", "http://a", "a:80", "[::1]:80", "a/b", "a b", "a,b", "a@b", ".a", "a..b"]
)
def test_what_is_not_a_host_name(name: str) -> None:
    with pytest.raises(UsageError, match="allow_host"):
        allowed_hosts("localhost", [name])
    with pytest.raises(UsageError, match="host"):
        allowed_hosts(name)


# Problem details


def test_errors_are_problem_details() -> None:
    response = problems.problem(404, "No image \udcff has this id.", headers={"X-Y": "z"}, exit_code=2)
    assert response.status_code == 404 and response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-y"] == "z"
    assert json.loads(response.body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "No image \udcff has this id.",
        "exit_code": 2,
    }


@pytest.mark.parametrize(
    "error, status",
    [
        (UsageError("`k=0` is too small", advice="try 1"), 400),
        (NoLibraryError("no library", path="index"), 503),
        (UnsupportedImageError("PDF is not supported"), 415),
        (DamagedError("the catalog is damaged"), 500),
        (StoppedError("stopped"), 503),
    ],
)
def test_errors_of_the_library_are_problems(error: UsageError, status: int) -> None:
    body = json.loads(problems.of_error(error).body)
    assert (body["status"], body["exit_code"], body["detail"]) == (status, error.exit_code, as_options(str(error)))


# The token's file

HERE = ("127.0.0.1", 8000)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CLIPSEARCH_TOKEN", raising=False)
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_new_tokens() -> None:
    tokens = {token.new_token() for _ in range(100)}
    assert len(tokens) == 100 and {len(made) for made in tokens} == {43}


def test_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for good in (TOKEN, "a1" * 16, "Zk3+/xYw0Q9mTnB5Vc8LrA==", token.new_token()):
        monkeypatch.setenv("CLIPSEARCH_TOKEN", good)
        assert token.server_token() == good
    for bad in (
        "short",
        "x" * 21,
        "x" * 30 + " ",
        "x" * 30 + "\n",
        "ö" * 30,
        "x" * 30 + ";",
        "é\udcff" * 20,
    ):
        monkeypatch.setenv("CLIPSEARCH_TOKEN", bad)
        with pytest.raises(UsageError, match="CLIPSEARCH_TOKEN") as raised:
            token.server_token()
        assert bad not in str(raised.value) or len(bad) < 10
    monkeypatch.setenv("CLIPSEARCH_TOKEN", "")
    assert len(token.server_token()) == 43


def test_what_is_loopback() -> None:
    for host in ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.8.9.255", "::1"):
        assert token.is_loopback(host), host
    for host in (
        "",
        "0.0.0.0",
        "::",
        "127.0.0.1.evil",
        "127.0.0.256",
        "localhost.evil",
        "128.0.0.1",
        "127.٣.0.1",
        "127.1",
    ):
        assert not token.is_loopback(host), host


def test_programs_of_the_same_user_find_the_token(runtime: Path) -> None:
    path = runtime / "clipsearch" / "127.0.0.1:8000"
    assert token.find(*HERE) is None
    with token.publish(*HERE, TOKEN):
        assert path.stat().st_mode & 0o7777 == 0o600 and path.parent.stat().st_mode & 0o7777 == 0o700
        assert token.find(*HERE) == TOKEN
        for other in (("::1", 8000), ("127.0.0.2", 8000), ("127.0.0.1", 8001), ("192.0.2.1", 8000), ("", 8000)):
            assert token.find(*other) is None, other
        with token.publish("::1", 8000, "y" * 43):
            assert (token.find(*HERE), token.find("::1", 8000)) == (TOKEN, "y" * 43)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("bound", "found", "others"),
    [
        ("0.0.0.0", "127.0.0.1", ("::1", "127.0.0.2", "0.0.0.0")),
        ("::", "::1", ("127.0.0.1", "::", "::ffff:127.0.0.1")),
        ("127.0.0.2", "127.0.0.2", ("127.0.0.1", "::1")),
        ("192.0.2.1", None, ("127.0.0.1", "::1", "192.0.2.1")),
    ],
)
def test_the_token_is_for_the_address_that_the_server_listens_on(
    runtime: Path, bound: str, found: str | None, others: tuple[str, ...]
) -> None:
    with token.publish(bound, 8000, TOKEN):
        assert found is None or token.find(found, 8000) == TOKEN
        assert [other for other in others if token.find(other, 8000)] == []


def test_the_token_is_withdrawn_when_the_server_fails(runtime: Path) -> None:
    with pytest.raises(KeyError), token.publish(*HERE, TOKEN):
        raise KeyError
    assert not list((runtime / "clipsearch").iterdir())


HOLD = """
import sys, time
from clipsearch.serve import token
with token.publish("127.0.0.1", 8000, sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_file_of_a_killed_server_counts_for_nothing_and_is_replaced(runtime: Path) -> None:
    path = runtime / "clipsearch" / "127.0.0.1:8000"
    killed = subprocess.Popen([sys.executable, "-c", HOLD, "x" * 43], stdout=subprocess.PIPE)
    with killed:
        assert killed.stdout is not None and killed.stdout.readline() == b"held\n"
        assert token.find(*HERE) == "x" * 43
        killed.kill()
    assert path.exists() and token.find(*HERE) is None
    with token.publish(*HERE, TOKEN):
        assert token.find(*HERE) == TOKEN
    assert not path.exists()


def test_a_server_removes_only_its_own_file(runtime: Path) -> None:
    path = runtime / "clipsearch" / "127.0.0.1:8000"
    with token.publish(*HERE, TOKEN), contextlib.ExitStack() as later:
        later.enter_context(token.publish(*HERE, "y" * 43))
        assert token.find(*HERE) == "y" * 43
        kept = later.pop_all()
    assert path.exists() and token.find(*HERE) == "y" * 43
    kept.close()
    assert not path.exists()


def locked_file(path: Path, mode: int = 0o600) -> contextlib.ExitStack:
    """A file with the token, held as a server holds it."""
    import fcntl

    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(TOKEN)
    path.chmod(mode)
    stack = contextlib.ExitStack()
    fcntl.flock(stack.enter_context(path.open()), fcntl.LOCK_EX)
    return stack


def test_files_that_others_can_read_or_place_are_not_believed(runtime: Path, tmp_path: Path) -> None:
    path = runtime / "clipsearch" / "127.0.0.1:8000"
    with locked_file(path):
        assert token.find(*HERE) == TOKEN
        for mode in (0o640, 0o604, 0o620, 0o602):
            path.chmod(mode)
            assert token.find(*HERE) is None, oct(mode)
        path.chmod(0o600)
        for mode in (0o750, 0o701, 0o777):
            path.parent.chmod(mode)
            assert token.find(*HERE) is None, oct(mode)
    path.parent.chmod(0o700)
    path.unlink()
    with locked_file(tmp_path / "elsewhere" / "127.0.0.1:8000"):
        path.symlink_to(tmp_path / "elsewhere" / "127.0.0.1:8000")
        assert token.find(*HERE) is None
        path.unlink()
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path / "elsewhere")
        assert token.find(*HERE) is None


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"x" * 40 + b"\r\nX: y", b"x" * 2000])
def test_a_file_without_a_token(runtime: Path, content: bytes) -> None:
    path = runtime / "clipsearch" / "127.0.0.1:8000"
    with locked_file(path):
        path.write_bytes(content)
        assert token.find(*HERE) is None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert token.find(*HERE) is None


def test_links_in_the_way_are_not_written_through(runtime: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = runtime / "clipsearch"
    folder.mkdir(mode=0o700)
    (folder / "127.0.0.1:8000").symlink_to(victim)
    with token.publish(*HERE, TOKEN):
        assert not (folder / "127.0.0.1:8000").is_symlink() and token.find(*HERE) == TOKEN
    assert victim.read_text() == "precious" and victim.exists()


def test_without_a_runtime_directory_a_temporary_folder_has_the_file(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime / "clipsearch").symlink_to(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / f"clipsearch-{os.geteuid()}"
    with token.publish(*HERE, TOKEN):
        assert (folder / "127.0.0.1:8000").exists() and folder.stat().st_mode & 0o777 == 0o700
        assert token.find(*HERE) == TOKEN
        folder.chmod(0o755)
        assert token.find(*HERE) is None
    monkeypatch.setenv("TMPDIR", "/dev/null/x")
    with token.publish(*HERE, TOKEN):
        assert token.find(*HERE) is None


def test_a_client_finds_the_token_without_a_web_framework() -> None:
    code = "import sys; from clipsearch.serve import token; token.find('127.0.0.1', 1); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"starlette", "fastapi", "uvicorn", "pydantic", "secrets", "numpy"}


def test_an_unexpected_error_is_logged_without_what_was_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as site:
        assert site.get("/api/broken%0Aline?q=secret").status_code == 500
    log = capfd.readouterr().err
    assert "GET /api/broken\\nline: unexpected ValueError" in log and "test_serve_guard.py" in log
    assert "secret" not in log
