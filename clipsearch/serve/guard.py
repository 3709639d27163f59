"""What the server refuses before the application sees it, and the headers of every response.

The threats are other web pages in the user's browser (their requests, frames, scripts and DNS rebinding), other users
of the network or the machine, and bodies without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import IPv6Address
from urllib.parse import quote, unquote, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipsearch.display.text import printable
from clipsearch.errors import UsageError
from clipsearch.serve.limits import MAX_BODY
from clipsearch.serve.problems import problem

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
"""Of every response; the application cannot weaken them."""

_OURS = re.compile(b"access-control-|" + b"|".join(name + b"$" for name, _ in _HEADERS), re.IGNORECASE)
"""What is removed from the application's responses."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(:[0-9]{0,5})?")
_ROOT_PATH = re.compile(r"(?!/(?:api|assets|healthz)(?:/|$))(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""Methods whose body must be of a type that no form of another site can send. The application has no others."""

_LINGER = 2
"""Seconds for which the rest of a refused body is read and dropped: a client that is still sending when the connection
is closed would see a reset instead of the response."""

_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
"""The characters of a query string that can be in a header."""

_BEARER = {"WWW-Authenticate": "Bearer"}

_UNAUTHORIZED_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>clipsearch: token needed</title>
<h1>This library needs a token</h1>
<p>Open the address that <code>clipsearch serve</code> shows in its terminal; it ends in <code>?token=…</code>.
After a restart of the server, the address has a new token. A token that you have set yourself is not shown: add it to
the address.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may use the server.

    hosts: the allowed names in Host, see `allowed_hosts`. port: part of the cookie's name. token: required if given.
    root_path: where a proxy shows the server, "" or "/photos". behind_proxy: whether X-Forwarded-Host and
    X-Forwarded-Proto count. max_body: bytes.
    """

    hosts: frozenset[str]
    port: int
    token: str | None = None
    root_path: str = ""
    behind_proxy: bool = False
    max_body: int = MAX_BODY

    def __post_init__(self) -> None:
        if not _ROOT_PATH.fullmatch(self.root_path):
            raise UsageError(
                f"`root_path={self.root_path}` must be a path such as /photos, without a slash at its end",
                advice="/api, /assets and /healthz are taken",
            )


def allowed_hosts(host: str, names: Iterable[str] = ()) -> frozenset[str]:
    """The names that Host may have: those of loopback, the address the server binds to, and `names`.

    Raises UsageError for a name that is a URL, a pattern, or has a port.
    """
    found = set(LOOPBACK)
    for parameter, given in (("host", host), *(("allow_host", name) for name in names)):
        authority = f"[{given}]" if given.count(":") > 1 and "[" not in given else given
        with contextlib.suppress(UnicodeError):
            authority = authority.encode("idna").decode()  # as browsers send it
        name, port = _parsed(authority)
        if not name or port:
            raise UsageError(f'`{parameter}="{given}"` must be a host name or an address, without a scheme or port')
        found.add(name)
    return frozenset(found)


class Guard:
    """ASGI middleware that applies a policy; the application behind it sees only what it allows."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _Request(scope, self._policy)
        scope = {**scope, "root_path": self._policy.root_path, "scheme": request.scheme}
        if refusal := request.refusal():
            await _refuse(refusal, receive, send)
        else:
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, with a limit on what it receives of a body whose length was not given."""
        received = 0
        started = ended = False

        async def limited() -> Message:
            nonlocal received, ended
            if ended:
                return {"type": "http.disconnect"}
            message = await receive()
            received += len(message.get("body", b""))
            if received <= self._policy.max_body:
                return message
            ended = True
            if not started:
                await _refuse(_too_large(self._policy), receive, send, more=message.get("more_body", False))
            return {"type": "http.disconnect"}

        async def sending(message: Message) -> None:
            nonlocal started
            if started or not ended:  # What the application says to the end of the body is not sent.
                started = True
                await send(message)

        try:
            await self._app(scope, limited, sending)
        except ClientDisconnect:
            pass  # which is no error of the application
        except asyncio.CancelledError:  # The server is being stopped.
            if not started:
                await _refuse(problem(503, "The server has been stopped."), receive, send, more=False)
        except Exception as exc:
            _log(scope, exc)


class _Request:
    """A request, and what the policy has against it."""

    def __init__(self, scope: Scope, policy: Policy) -> None:
        self._policy = policy
        self._method: str = scope["method"]
        self._headers = Headers(scope=scope)
        self._query: bytes = scope["query_string"]
        path, root = scope["path"], policy.root_path
        # A proxy may remove its prefix or not.
        self._path: str = path[len(root) :] if f"{path}/".startswith(f"{root}/") else path
        self._hosts = self._headers.getlist("host")
        self._forwarded = self._items("x-forwarded-host")
        proto = self._items("x-forwarded-proto")[:1]
        self.scheme: str = proto[0] if proto in (["http"], ["https"]) else scope["scheme"]

    def _items(self, name: str) -> list[str]:
        """A list that proxies have added to, the one nearest to the client first; empty without a proxy."""
        values = self._headers.getlist(name) if self._policy.behind_proxy else []
        return [item.strip().lower() for value in values for item in value.split(",")]

    def refusal(self) -> Response | None:
        """The response to a request that the application must not see."""
        return (
            self._check_host()
            or self._check_site()
            or self._check_origin()
            or self._check_type()
            or self._check_slash()
            or self._check_token()
            or self._check_length()
        )

    def _check_host(self) -> Response | None:
        """Against DNS rebinding: pages of another site whose name was made to lead to this server."""
        if self._path and not self._path.startswith("/"):
            return problem(400, "The request target must be a path.")
        if len(self._hosts) != 1:
            return problem(400, "The request must have the header Host once.")
        for authority in (*self._hosts, *self._forwarded):
            name, _ = _parsed(authority)
            if not name:
                return problem(400, "The request's host is malformed.")
            if name not in self._policy.hosts:
                return problem(421, f"This server does not answer for {name}; start it with --allow-host {name}.")
        return None

    def _check_site(self) -> Response | None:
        """Against pages of other sites, and of other ports and names of this machine."""
        if all(value in ("same-origin", "none") for value in self._headers.getlist("sec-fetch-site")):
            return None
        purpose = [*self._headers.getlist("sec-fetch-mode"), *self._headers.getlist("sec-fetch-dest")]
        if self._method == "GET" and self._path in ("", "/") and purpose == ["navigate", "document"]:
            return None
        return problem(403, "Requests from other sites are refused.")

    def _check_origin(self) -> Response | None:
        """Against the same in browsers without Sec-Fetch-Site."""
        own = [*self._forwarded, *self._hosts][0].lower()
        allowed = (f"http://{own}", f"https://{own}")
        if self._method in ("GET", "HEAD") or all(o.lower() in allowed for o in self._headers.getlist("origin")):
            return None
        return problem(403, "Requests from other origins are refused.")

    def _check_type(self) -> Response | None:
        """Against forms, which can send neither JSON nor a header of ours."""
        types = self._headers.getlist("content-type")
        essence = types[0].partition(";")[0].strip().lower() if len(types) == 1 else ""
        if self._method not in _CHANGING or essence == "application/json":
            return None
        if essence == "multipart/form-data" and self._headers.get("x-clipsearch"):
            return None
        return problem(415, "Send application/json, or multipart/form-data with the header X-Clipsearch: 1.")

    def _check_slash(self) -> Response | None:
        """The page's links are relative to the folder that it is in."""
        return self._to_page(308, self._query) if self._path == "" else None

    def _check_token(self) -> Response | None:
        token = (self._policy.token or "").encode()
        parts = self._query.split(b"&") if self._path == "/" and self._method == "GET" else []
        given = [part for part in parts if unquote(part.partition(b"=")[0]) == "token"]
        if any(not token or compare_digest(unquote_to_bytes(part.partition(b"=")[2]), token) for part in given):
            return self._to_page(303, b"&".join(part for part in parts if part not in given), signed_in=bool(token))
        if not token or self._path == "/healthz" or (not given and self._is_authorized(token)):
            return None
        if parts:
            return HTMLResponse(_UNAUTHORIZED_PAGE, 401, _BEARER)
        return problem(401, "The token is missing or wrong.", headers=_BEARER)

    def _to_page(self, status: int, query: bytes, *, signed_in: bool = False) -> Response:
        """A redirect to the page, wherever a proxy shows it, with the cookie if the token has been given."""
        root = self._policy.root_path
        location = f"{root or '.'}/" + f"?{quote(query, safe=_VISIBLE)}" * bool(query)
        cookie = f"{self._cookie}={self._policy.token}; HttpOnly; SameSite=Lax; Path={root or '/'}"
        cookie += "; Secure" * (self.scheme == "https")
        return Response(None, status, {"Location": location} | ({"Set-Cookie": cookie} if signed_in else {}))

    @property
    def _cookie(self) -> str:
        return f"clipsearch-{self._policy.port}"

    def _is_authorized(self, token: bytes) -> bool:
        """Whether a cookie or `Authorization: Bearer` has the token."""
        cookies = [item.strip().partition("=") for line in self._headers.getlist("cookie") for item in line.split(";")]
        bearers = [value.partition(" ") for value in self._headers.getlist("authorization")]
        values = [value for name, _, value in cookies if name == self._cookie]
        values += [value.strip() for scheme, _, value in bearers if scheme.lower() == "bearer"]
        return any(compare_digest(value.encode("latin-1"), token) for value in values)

    def _check_length(self) -> Response | None:
        lengths = self._headers.getlist("content-length")
        return _too_large(self._policy) if any(int(value) > self._policy.max_body for value in lengths) else None


def _parsed(authority: str) -> tuple[str, str]:
    """Name and port (":8000") of a Host header, as `Policy.hosts` has names; an empty name if it is malformed."""
    found = _AUTHORITY.fullmatch(authority.lower())
    if not found:
        return "", ""
    name, port = found[1], found[2] or ""
    if name.startswith("["):
        try:
            name = str(IPv6Address(name[1:-1]))
        except ValueError:
            return "", ""
    return name, port


def _too_large(policy: Policy) -> Response:
    return problem(413, f"The body is larger than {policy.max_body} bytes.")


def _log(scope: Scope, exc: Exception) -> None:
    """Log where an unexpected error happened, without what was asked for: no query string, and no message."""
    where = "".join(traceback.format_tb(exc.__traceback__))
    what = f"{scope['method']} {printable(scope['path'])}: unexpected {type(exc).__name__}"
    logging.getLogger("uvicorn.error").error("%s\n%s", what, where)


def _with_headers(send: Send) -> Send:
    """Adds what every response has."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(n, v) for n, v in message.get("headers", []) if not _OURS.match(n)]
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers + _HEADERS}
        await send(message)

    return sending


async def _refuse(response: Response, receive: Receive, send: Send, *, more: bool = True) -> None:
    """Send a response instead of the application's, and close the connection."""
    headers = [*response.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while more:
                more = (await receive()).get("more_body", False)
    await send({"type": "http.response.body"})
