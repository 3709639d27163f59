"""What a server is measured with: clients over bare sockets, and a `Library` without a server."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clipsearch.__main__ import COLLECT_EVERY

REQUEST = "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n"

THINGS = ("circle", "square", "triangle", "star")
COLOURS = ("red", "green", "blue", "yellow", "black")


class Connection:
    """A connection to a server on this machine that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a response."""
        self._socket.sendall(REQUEST.format(path, self._port).encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._received()
        status, length = head(data[: data.index(b"\r\n\r\n") + 4])
        body = data[data.index(b"\r\n\r\n") + 4 :]
        while len(body) < length:
            body += self._received()
        return status, body

    def close(self) -> None:
        self._socket.close()

    def _received(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server has closed the connection")
        return data


def head(data: bytes) -> tuple[int, int]:
    """Status and length of the body, from the head of a response."""
    lines = data.lower().split(b"\r\n")
    lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
    return int(lines[0].split()[1]), lengths[0]


def known_texts() -> list[str]:
    """Texts that are asked for again and again."""
    return [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS]


def new_texts(name: str) -> Iterator[str]:
    """Texts that nobody else asks for."""
    return (f"a {colour} {thing}, {name} {number}" for number in range(10**6) for colour in COLOURS for thing in THINGS)


def search_path(text: str, k: int = 10) -> str:
    return f"/api/v1/search?q={quote(text)}&k={k}"


# The same queries over HTTP and in this process


def pairs(library: str, port: int, count: int) -> Callable[[], dict[str, Any]]:
    """The same query to a server and to a `Library`, in turn; seconds of each, medians, for known and for new texts."""
    from clipsearch.library.library import Library

    opened, connection = Library.open(library), Connection(port)
    rounds = map(str, range(10**6))

    def over_http(text: str) -> list[int]:
        status, body = connection.get(search_path(text))
        assert status == 200, body
        return [hit["id"] for hit in json.loads(body)["hits"]] if text in known_texts() else []

    def timed(work: Callable[[str], object], text: str) -> float:
        begun = time.perf_counter()
        work(text)
        return time.perf_counter() - begun

    for text in known_texts():
        assert over_http(text) == [hit.id for hit in opened.query(text).hits]

    def ask() -> dict[str, Any]:
        found = {}
        number = next(rounds)
        theirs, ours = (islice(new_texts(f"{side} {number}"), count) for side in ("here", "there"))
        known = list(islice(cycle(known_texts()), count))
        for name, texts in (("known", zip(known, known, strict=True)), ("new", zip(ours, theirs, strict=True))):
            times = [(timed(lambda t: connection.get(search_path(t)), a), timed(opened.query, b)) for a, b in texts]
            found[name] = [statistics.median(side) for side in zip(*times, strict=True)]
        return found

    return ask


def alone(library: str, seconds: float) -> Callable[[], dict[str, Any]]:
    """Queries with known texts, one after the other: CPU seconds of this process for one of them."""
    from clipsearch.library.library import Library

    gc.set_threshold(COLLECT_EVERY)  # as the server has it
    opened = Library.open(library)
    for text in known_texts():
        opened.query(text)

    def ask() -> dict[str, Any]:
        until, cpu, count = time.perf_counter() + seconds, time.process_time(), 0
        for text in cycle(known_texts()):
            opened.query(text)
            count += 1
            if time.perf_counter() > until:
                break
        return {"count": count, "cpu": (time.process_time() - cpu) / count}

    return ask


# Many clients


def clients(port: int, connections: int, seconds: float, paths: str | None = None) -> Callable[[], dict[str, Any]]:
    """GET requests over so many connections at a time: statuses, errors, and the median and 95th percentile in seconds.

    With `paths`, a file of them, each once in a round; otherwise searches with known texts for some seconds.
    """
    listed = Path(paths).read_text().splitlines() if paths else None

    async def client(given: Iterator[str], until: float, found: list[float], statuses: Counter[str]) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for path in given:
                begun = time.perf_counter()
                if begun > until:
                    break
                writer.write(REQUEST.format(path, port).encode())
                status, length = head(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(length)
                statuses[str(status)] += 1
                if status == 200:
                    found.append(time.perf_counter() - begun)
                else:
                    await asyncio.sleep(1)
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as exc:
            statuses[type(exc).__name__] += 1

    async def all_of_them() -> dict[str, Any]:
        found: list[float] = []
        statuses: Counter[str] = Counter()
        given = iter(listed) if listed else cycle(map(search_path, known_texts()))
        begun = time.perf_counter()
        await asyncio.gather(*(client(given, begun + seconds, found, statuses) for _ in range(connections)))
        took = time.perf_counter() - begun
        places = statistics.quantiles(found, n=20) if len(found) > 1 else [0.0] * 19
        return {"statuses": statuses, "took": took, "p50": places[9], "p95": places[18]}

    return lambda: asyncio.run(all_of_them())


# Responses without a library


def in_memory(folder: str) -> Callable[[], dict[str, Any]]:
    """A server whose handler returns the files in a folder from memory, run as ours is; a round has its port."""
    import uvicorn
    from fastapi import FastAPI, Response

    gc.set_threshold(COLLECT_EVERY)
    bodies = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.get("/{number}")
    async def body(number: int) -> Response:
        return Response(bodies[number], media_type="image/jpeg")

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    settings: dict[str, Any] = {"access_log": False, "http": "h11", "log_level": "warning", "loop": "asyncio"}
    config = uvicorn.Config(app, proxy_headers=False, server_header=False, ws="none", **settings)
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return lambda: {"port": listener.getsockname()[1], "python": sys.version}
