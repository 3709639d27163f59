"""Asks a `clipsearch serve` instead of a library: `query --server URL`. Imports little: start-up is most of the time.

The address and the token, the request, and what may go wrong on the way; `answers` reads what comes back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.cli import answers, output
from clipsearch.cli.exits import MEANINGS
from clipsearch.cli.uploads import Images, check_text, form, too_large
from clipsearch.errors import ClipsearchError, ImageError, UsageError, reason
from clipsearch.search.terms import Term, Text, check_unweighed
from clipsearch.serve import token as tokens
from clipsearch.serve.limits import MAX_BODY, MAX_HITS, MAX_TEXT, MAX_TEXTS
from clipsearch.types import Notice

if TYPE_CHECKING:
    import http.client

    from clipsearch.catalog.filters import Filter
    from clipsearch.display.thumbnails import Thumbnail
    from clipsearch.types import Hit, QueryResult

_MAX_ANSWER = 2**27
"""Bytes; 1,000 hits take about one million."""

_CONNECT_S = 10.0
_SILENCE_S = 120.0
"""Seconds in which nothing arrives: a server waits 30 for its model, and as long for a body."""
_PATIENCE_S = 35.0
"""Seconds in which a request is sent again that the server has no room for, or no model yet."""


class RefusedError(ClipsearchError):
    """The server says why it does not do what it was asked to."""


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Server:
    """A server at a URL. Its methods raise ClipsearchError with the exit code that a local query would leave with."""

    texts = MAX_TEXTS
    """Queries that it takes at a time."""
    characters = MAX_TEXT
    """Characters that it takes of each."""
    hits = MAX_HITS
    """Hits that it returns at a time."""

    def __init__(self, url: str) -> None:
        from urllib.parse import quote, unquote, urlsplit

        given = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(given)
            self._host, port = parts.hostname or "", parts.port
        except ValueError as exc:
            raise _bad_url(url, str(exc)) from exc
        self._tls = parts.scheme == "https"
        self._port = port or (443 if self._tls else 80)
        if parts.scheme not in ("http", "https") or not self._host or port == 0 or re.search(r"[\s\0-\x20]", given):
            raise _bad_url(url, "it must be an address such as http://127.0.0.1:8000/")
        if "@" in parts.netloc:
            raise _bad_url(url, f"a server takes no user and password; ${tokens.VARIABLE} has its token")
        token = re.fullmatch("token=([^&]*)", parts.query)  # as in the address that `clipsearch serve` shows
        if parts.fragment or (parts.query and not token):
            raise _bad_url(url, "leave out what comes after ? or #")
        self._path = quote(parts.path.rstrip("/"), safe="/%!$&'()*+,;=:@")
        self.url = f"{parts.scheme}://{parts.netloc}{self._path}/"
        self._token: str | None = None
        self._token_from = ""
        self._is_named = False
        if token:
            self._use_token(unquote(token[1]), "the address")
        elif found := os.environ.get(tokens.VARIABLE):
            self._use_token(found, f"${tokens.VARIABLE}")

    # What can be asked

    def query(
        self,
        terms: Sequence[Term],
        *,
        k: int,
        where: Filter | None,
        filters: Mapping[str, Any],
        negative: Sequence[Term],
        match_all: bool,
        relevant: bool,
        explain: bool,
        judge: bool,
        use_cache: bool,
        **others: str | int | None,
    ) -> QueryResult:
        """The answer to one query; see `Library.query` and `QueryOptions`. `filters`: what `where` was read from."""
        if match_all:
            check_unweighed(terms)
        images = Images((*terms, *negative))
        first = terms[0]
        is_plain = isinstance(first, Text) and first.weight == 1
        parameters = {
            "q": str(first) if is_plain else images.written(first),
            "text": is_plain,
            "with": [images.written(term) for term in terms[1:]],
            "without": [images.written(term) for term in negative],
            "all": match_all,
            "relevant": relevant,
            "no-cache": not use_cache,
            **others,
        }
        try:
            body = self._post(parameters | _filters(filters, where), k, images.contents)
        except ClipsearchError as exc:
            raise _error(images.named(str(exc)), exc.exit_code) from exc
        found: QueryResult = self._read(answers.query_result, body, str(first))
        keep = judge or relevant
        notices = [Notice(each.kind, images.named(each)) for each in found.notices if keep or each.kind != "relevance"]
        hits = found.hits if explain else tuple(replace(hit, explain=()) for hit in found.hits)
        return replace(found, hits=hits, notices=tuple(notices))

    def query_many(
        self, texts: Sequence[str], *, k: int, where: Filter | None, filters: Mapping[str, Any], model: str | None
    ) -> tuple[QueryResult, ...]:
        """The answers to at most `texts` texts; see `Library.query_many`."""
        body = self._post({"queries": list(texts), "model": model, **_filters(filters, where)}, k)
        found: tuple[QueryResult, ...] = self._read(answers.query_results, body.splitlines(), texts)
        return found

    def thumbnails(self, hits: Iterable[Hit]) -> Iterator[Thumbnail]:
        """The hits with their images, as `display.thumbnails.thumbnails` makes them at GALLERY_SIDE pixels."""
        from clipsearch.display.html.gallery import GALLERY_SIDE
        from clipsearch.display.thumbnails import received

        return received(((hit, self._thumbnail(hit)) for hit in hits), side=GALLERY_SIDE)

    def _thumbnail(self, hit: Hit) -> bytes | ImageError:
        try:
            return self._asked("GET", f"images/{hit.id}/thumbnail").body
        except RefusedError as exc:
            return ImageError(str(exc))

    # The request

    def _post(self, parameters: Mapping[str, Any], k: int, images: Sequence[bytes] = ()) -> bytes:
        """The body of the answer to a search for `k` images; parameters that are not given are left out."""
        given = {"k": k} | {name: value for name, value in parameters.items() if value not in (None, False, [])}
        for name, value in given.items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    check_text(text)
                    if len(text) > MAX_TEXT and name != "in-b64":
                        what = "the query" if name == "q" else f"--{name}"
                        raise UsageError(f"{what} has {len(text):,} characters; a server takes {MAX_TEXT:,}")
        data = json.dumps(given, ensure_ascii=False).encode()
        content_type = "application/json"
        if images:
            boundary = os.urandom(16).hex()
            content_type = f"multipart/form-data; boundary={boundary}"
            data = b"".join(form(data, images, boundary))
        if len(data) > MAX_BODY:
            raise too_large("the pictures")
        return self._asked("POST", "search", data, {"Content-Type": content_type, "X-Clipsearch": "1"}).body

    def _asked(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> _Answer:
        """A successful answer; asked again while the server is busy."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            answer = self._exchanged(method, path, body, headers)
            if answer.status == 200:
                return answer
            pause = _seconds(answer.headers.get("Retry-After"))
            if answer.status != 503 or pause is None or time.monotonic() + pause > until:
                raise self._refusal(answer)
            time.sleep(pause)

    def _exchanged(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        """One request and its answer, whatever its status. Raises ClipsearchError where there is none."""
        import http.client

        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_CONNECT_S)
        try:
            connection.connect()
            connection.sock.settimeout(_SILENCE_S)
            if token := self._token or tokens.find(*connection.sock.getpeername()[:2]):
                headers = {**headers, "Authorization": f"Bearer {token}"}
            # It may refuse a request before it has all of it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, f"{self._path}/api/v1/{path}", body, headers)
            response = connection.getresponse()
            if (response.length or 0) <= _MAX_ANSWER:
                data = response.read(_MAX_ANSWER + 1)
                if response.length:
                    raise http.client.IncompleteRead(data)
                if len(data) <= _MAX_ANSWER:
                    return _Answer(response.status, response.headers, data)
            raise self._odd(f"it has more than {_MAX_ANSWER >> 20} MiB")
        except (OSError, ValueError, http.client.HTTPException) as exc:
            raise self._failure(exc) from exc
        finally:
            connection.close()

    def _use_token(self, token: str, source: str) -> None:
        if not re.fullmatch(r"[!-~]+", token):
            raise UsageError(f"the token in {source} has characters that no token has, such as spaces")
        self._token, self._token_from = token, source
        if not self._tls and not tokens.is_loopback(self._host):
            output.note(f"the token goes to {self._host} unencrypted; https, or an SSH tunnel, protects it")

    # What goes wrong

    def _failure(self, exc: Exception) -> ClipsearchError:
        """Why there was no answer at all."""
        import socket

        if isinstance(exc, TimeoutError):
            return _error(f"{self.url} does not answer in time; is it overloaded, or another program's address?")
        if isinstance(exc, ConnectionRefusedError):
            return _error(f"no server at {self.url}; start one with `clipsearch serve`, or correct the address")
        if isinstance(exc, socket.gaierror | UnicodeError):
            return _error(f"there is no host named {self._host}, or no network; correct the address {self.url}")
        if type(exc).__name__ == "SSLCertVerificationError":
            why = str(getattr(exc, "verify_message", exc)).rstrip(".")
            return _error(f"the certificate of {self.url} is not trusted: {why}; $SSL_CERT_FILE can name one that is")
        if type(exc).__name__.startswith("SSL"):
            return _error(f"no encrypted connection to {self.url}: {exc}; does the server speak plain http?")
        if isinstance(exc, OSError) and not isinstance(exc, ConnectionError):
            return _error(f"cannot reach {self.url}: {reason(exc)}")
        return self._odd("it ends early, or is not HTTP")

    def _refusal(self, answer: _Answer) -> ClipsearchError:
        """Why the server did not do what it was asked to."""
        status = answer.status
        if status == 401:
            had = f"does not accept the token from {self._token_from}" if self._token else "needs a token"
            return _error(f"{self.url} {had}; set ${tokens.VARIABLE} to the server's")
        if 300 <= status < 400 and (location := answer.headers.get("Location")):
            return _error(f"{self.url} redirects to {location}, which is not followed; use that address")
        found = answers.problem(answer.body) if answer.headers.get_content_type() == answers.PROBLEM else None
        if found is None and status == 413:
            return _error(f"the pictures are too large for a proxy at {self.url}; give smaller copies")
        if found is None and status in (502, 503, 504):
            return _error(f"a proxy at {self.url} does not reach `clipsearch serve` (HTTP {status}); is it running?")
        if found is None or (found[1] is None and status in (404, 405)):  # There is something else at the path.
            return self._odd(f"HTTP {status}")
        detail, code = found
        return _error(detail, code if code in MEANINGS and code else 1, RefusedError)

    def _odd(self, why: str) -> ClipsearchError:
        return _error(f"the answer of {self.url} is not one of `clipsearch serve`: {why}; check the address")

    def _read(self, reader: Any, *arguments: Any) -> Any:  # noqa: ANN401
        try:
            found = reader(*arguments)
        except answers.NewerError as exc:
            raise _error(f"{self.url} has a newer version of clipsearch; update this one") from exc
        except answers.MalformedError as exc:
            raise self._odd(str(exc)) from exc
        if not self._is_named:
            output.note(f"answered by {self.url}")
            self._is_named = True
        return found


def _filters(given: Mapping[str, Any], where: Filter | None) -> dict[str, Any]:
    """The options of a filter under their names, but with places as they were read: the server has another folder.

    It looks up no place in the file system, so each is sent under its name without links, too.
    """
    from base64 import b64encode

    within: tuple[bytes, ...] = ()
    if where is not None and where.within:
        from clipsearch.catalog.places import without_links

        within = (*where.within, *(name for name in map(without_links, where.within) if name not in where.within))
    names = {"tags": "tag", "formats": "format"}
    named = {names.get(name, name.replace("_", "-")): value for name, value in given.items() if name != "within"}
    return named | {"in-b64": [b64encode(name).decode() for name in within]}


def _seconds(retry_after: str | None) -> float | None:
    """How long to wait; None where the server does not want to be asked again. A date counts as a second."""
    if retry_after is None:
        return None
    return max(0.2, min(float(retry_after), 3600.0)) if re.fullmatch("[0-9]{1,9}", retry_after) else 1.0


def _error(message: str, code: int = 1, kind: type[ClipsearchError] = ClipsearchError) -> ClipsearchError:
    error = kind(message)
    error.exit_code = code
    return error


def _bad_url(url: str, why: str) -> UsageError:
    shown = re.sub("//[^/]*@|[?#].*", lambda found: "//" if found[0][0] == "/" else "", url)
    return UsageError(f"the server's address {shown!r}: {why}")
