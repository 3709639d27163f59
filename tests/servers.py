"""A real `clipsearch serve`, as a process of its own on a free port."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from conftest import Cli

STOPS_S = 5
"""Seconds in which a server must have ended after SIGTERM."""


class Server:
    """A running server: its process, its address, and a client that reaches it."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.process = process
        self.address = address
        self.url = httpx.URL(address).copy_with(query=None)
        self.client = httpx.Client(base_url=str(self.url), timeout=60, trust_env=False)

    def get(self, path: str, **params: Any) -> httpx.Response:
        """GET below /api/v1."""
        return self.client.get(f"/api/v1/{path}", params=params)

    def post(self, path: str, value: object = None) -> httpx.Response:
        """POST JSON below /api/v1."""
        return self.client.post(f"/api/v1/{path}", json={} if value is None else value)

    def send(self, path: str, parts: list[tuple[str, Any]]) -> httpx.Response:
        """POST a form below /api/v1."""
        return self.client.post(f"/api/v1/{path}", files=parts, headers={"X-Clipsearch": "1"})

    def stop(self) -> int:
        """The exit code after SIGTERM. Raises TimeoutExpired."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOPS_S)


@contextlib.contextmanager
def served(cli: Cli, folder: Path, *arguments: str, **options: Any) -> Iterator[Server]:
    """A server of the library in `folder`/index; what it writes to stderr goes to `folder`/serve.err."""
    with open(folder / "serve.err", "ab") as errors:
        process = cli.start("serve", "--port", "0", *arguments, cwd=folder, stderr=errors, **options)
    assert process.stdout is not None
    server = None
    try:
        address = process.stdout.readline().decode().strip()
        assert address, (folder / "serve.err").read_text()
        server = Server(process, address)
        yield server
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if server is not None:
            server.client.close()
