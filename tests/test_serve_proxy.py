"""The server behind a proxy that shows it on a sub-path: pages, thumbnails, links, the token and the API work there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from conftest import Cli
from starlette.types import Receive, Scope, Send
from test_serve_guard import JSON, TOKEN, listening

PREFIX = "/photos"


class Proxy:
    """Shows a server on a sub-path. `strips`: it removes the sub-path; `renames`: it sends a Host of its own."""

    def __init__(self, target: str, *, strips: bool, renames: bool) -> None:
        self.target, self.strips, self.renames = target, strips, renames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = scope["raw_path"].decode()
        status, headers, content = 404, [], b"of another site"
        if f"{path}/".startswith(f"{PREFIX}/"):
            own = dict(scope["headers"])[b"host"]
            sent = [(b"x-forwarded-host", own), (b"x-forwarded-proto", b"http")] if self.renames else [(b"host", own)]
            sent += [(n, v) for n, v in scope["headers"] if n not in (b"host", b"connection")]
            url = self.target + (path[len(PREFIX) :] or "/" if self.strips else path)
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                url += f"?{scope['query_string'].decode()}" * bool(scope["query_string"])
                response = await client.request(scope["method"], url, headers=sent, content=body)
            status, headers, content = response.status_code, response.headers.raw, response.content
        kept = [
            (n, v) for n, v in headers if n.lower() not in (b"connection", b"content-encoding", b"transfer-encoding")
        ]
        await send({"type": "http.response.start", "status": status, "headers": kept})
        await send({"type": "http.response.body", "body": content})


class Links(HTMLParser):
    """The addresses in a page, by attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, set[str]] = {"href": set(), "src": set(), "action": set()}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {name for name, _ in attrs if name.startswith("on") or name in ("style", "srcdoc", "ping")}, tag
        assert tag not in ("style", "base") and (tag != "script" or "src" in dict(attrs))
        for name, value in attrs:
            if name in self.found and value:
                self.found[name].add(value)


@contextmanager
def served(cli: Cli, indexed: Path, *options: str) -> Iterator[str]:
    """`clipsearch serve` as a process; yields its address."""
    command = ("serve", "--port", "0", "--token", *options)
    with cli.start(*command, cwd=indexed, unbuffered="1") as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            assert re.fullmatch("http://[^?]*/", address), address  # The token is the variable's, which is not printed.
            yield address.removesuffix("/")
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.fixture(
    scope="module",
    params=[
        {"strips": True, "renames": False, "root": ""},
        {"strips": True, "renames": True, "root": PREFIX},
        {"strips": False, "renames": False, "root": PREFIX},
        {"strips": False, "renames": True, "root": PREFIX},
    ],
    ids=lambda case: "-".join(f"{name}={value}" for name, value in case.items()),
)
def case(request: pytest.FixtureRequest, cli: Cli, indexed: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The address of the page behind a proxy, and how that works."""
    options = ["--behind-proxy"] if request.param["renames"] else []
    options += ["--root-path", PREFIX] if request.param["root"] else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cli.env, "CLIPSEARCH_TOKEN", TOKEN)
        with served(cli, indexed, *options) as target:
            proxy = Proxy(target, strips=request.param["strips"], renames=request.param["renames"])
            with listening(proxy) as port:
                yield f"http://127.0.0.1:{port}{PREFIX}/", request.param


@pytest.fixture
def browser(case: tuple[str, dict[str, object]]) -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as client:
        yield client


def test_the_address_with_the_token_leads_to_the_page(
    case: tuple[str, dict[str, object]], browser: httpx.Client
) -> None:
    page, how = case
    assert browser.get(page).status_code == browser.get(f"{page}api/v1/status").status_code == 401
    assert browser.get(f"{page}healthz").status_code == 200
    opened = browser.get(f"{page}?q=cat&token={TOKEN}")
    assert opened.status_code == 200 and opened.url == f"{page}?q=cat" and "cat" in opened.text
    [cookie] = browser.cookies.jar
    assert cookie.path == (how["root"] or "/") and cookie.domain == "127.0.0.1"
    assert browser.get(urljoin(page, "/elsewhere")).text == "of another site"
    if not how["strips"]:
        assert browser.get(page.removesuffix("/")).url == page


def test_everything_in_the_page_is_below_the_path(case: tuple[str, dict[str, object]], browser: httpx.Client) -> None:
    page, _ = case
    opened = browser.get(f"{page}?token={TOKEN}&q=cat&k=2")
    links = Links(opened.text).found
    addresses = {urljoin(str(opened.url), link) for link in set().union(*links.values())}
    assert len(links["src"]) == 2 and links["action"]
    kinds = set[str]()
    for address in addresses:
        assert address.startswith(page), address
        response = browser.get(address)
        assert response.status_code == 200, (address, response.text)
        kinds.add(re.split("[/;]", response.headers["content-type"])[0])
    assert {"text", "image"} <= kinds
    [more] = [link for link in links["href"] if link.endswith("page=2")]
    assert browser.get(urljoin(str(opened.url), more)).status_code == 200


def test_the_api_works_there_as_without_a_proxy(
    case: tuple[str, dict[str, object]], browser: httpx.Client, cli: Cli, indexed: Path
) -> None:
    page, _ = case
    origin = page.removesuffix(f"{PREFIX}/")
    browser.headers["Authorization"] = f"Bearer {TOKEN}"
    found = browser.get(f"{page}api/v1/search", params={"q": "a cat", "k": 3})
    assert found.content == cli("query", "a cat", "-k", "3", "--json", cwd=indexed).out
    for sender, status in (({}, 200), ({"Origin": origin}, 200), ({"Origin": "http://evil.example"}, 403)):
        posted = browser.post(f"{page}api/v1/search", headers=JSON | sender, content=b'{"q": "a cat"}')
        assert posted.status_code == status, posted.text
    assert browser.get(f"{page}api/v1/search/", params={"q": "a"}).status_code == 404
    assert browser.get(page, headers={"Host": "evil.example"}).status_code == 421
