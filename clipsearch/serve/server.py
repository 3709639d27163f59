"""Runs the application with uvicorn: where it listens, who may use it, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clipsearch.encoders.base import EncoderOptions
from clipsearch.errors import UsageError
from clipsearch.files import PathLike
from clipsearch.library.library import Library
from clipsearch.serve import token as tokens
from clipsearch.serve.app import application
from clipsearch.serve.guard import Policy, allowed_hosts
from clipsearch.serve.service import Service

GRACE_S = 2
"""Seconds for requests that are being answered when the server is stopped."""

CLOSING_S = 2.0
"""Seconds after that, to finish the batch of an index run and the last searches; what is committed is kept anyway."""

MAX_CONNECTIONS = 500
SILENT_S = 20.0
"""Connections at a time, and seconds until the first request of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """host, port: where to listen; port 0 takes a free one. read_only: no index runs; allow_index: index runs even
    if other machines can reach the server. allow_host: more names by which the server is reached. root_path: the path
    at which a proxy shows it. behind_proxy: believe a proxy's headers. token: require one on loopback, too.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    read_only: bool = False
    allow_index: bool = False
    allow_host: tuple[str, ...] = ()
    root_path: str = ""
    behind_proxy: bool = False
    token: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return tokens.is_loopback(self.host) and not self.behind_proxy

    def shown_host(self, bound: str) -> str:
        """A name for a URL by which the server is reached, which listens on the address `bound`.

        It is not `localhost`: that may also be an address on which another user's program listens.
        """
        reached = tokens.reached(bound)
        if reached != bound:
            reached = next(iter(self.allow_host), reached)
        elif not tokens.is_loopback(self.host):
            reached = self.host
        return f"[{reached}]" if ":" in reached and "[" not in reached else reached


def serve(
    folder: PathLike, settings: Settings, options: EncoderOptions, *, ready: Callable[[str, str | None], None]
) -> None:
    """Serve the library in `folder` until SIGINT or SIGTERM.

    `ready` is called with its address, and the token if it requires one. Raises UsageError where it cannot listen, and
    what `Library.open` raises.
    """
    with contextlib.closing(_listen(settings.host, settings.port)) as listener, contextlib.ExitStack() as stack:
        bound, port = listener.getsockname()[:2]
        secret = tokens.server_token() if settings.token or not settings.is_local else None
        policy = Policy(
            hosts=allowed_hosts(settings.host, settings.allow_host),
            port=port,
            token=secret,
            root_path=settings.root_path,
            behind_proxy=settings.behind_proxy,
        )
        if secret is not None:
            stack.enter_context(tokens.publish(bound, port, secret))
        may_index = not settings.read_only and (settings.is_local or settings.allow_index)
        library = Library.open(folder, options=options, serving=True)  # `service` closes it; nothing fails in between.
        service = Service(library, may_index=may_index)
        config = uvicorn.Config(
            application(service, policy),
            access_log=False,
            http=_Protocol,
            lifespan="off",
            log_level="error",
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            ws="none",
        )
        stack.callback(service.stop)
        address = f"http://{settings.shown_host(bound)}:{port}/"

        def started() -> None:
            service.start()
            ready(address, secret)

        asyncio.run(_Server(config, started, stack.close).serve(sockets=[listener]))
        closing = threading.Thread(target=service.close, daemon=True)
        closing.start()
        closing.join(CLOSING_S)


class _Protocol(H11Protocol):
    """h11, which is the strictest about what a request is, with a limit on connections, and on how long one is silent.

    Without these, connections that ask for nothing would take all descriptors of the process.
    """

    _silent: ClassVar[dict[_Protocol, None]] = {}
    """Connections without a request so far, the oldest first; some may have had one meanwhile."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._silent[self] = None
        self.loop.call_later(SILENT_S, self._close_if_silent)
        if len(self.connections) > MAX_CONNECTIONS:  # One that is silent makes room.
            any(each._close_if_silent() for each in list(self._silent))

    def connection_lost(self, exc: Exception | None) -> None:
        self._silent.pop(self, None)
        super().connection_lost(exc)

    def _close_if_silent(self) -> bool:
        """Close the connection if there has been no request; whether it was closed."""
        is_silent = self in self._silent and self.cycle is None
        self._silent.pop(self, None)
        if is_silent:
            self.transport.abort()
        return is_silent


class _Server(uvicorn.Server):
    """uvicorn that tells of its start and its end, before it gives up the port, and returns when stopped.

    Before the end, streams and runs are stopped, for which it would wait; and the token's file is removed.
    """

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signals again in the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError, OverflowError) as exc:
        number = exc.errno or 0 if isinstance(exc, OSError) else 0  # Python adds the address to the system's words.
        why = os.strerror(number).lower() if number > 0 else str(exc)
        raise UsageError(f"cannot listen on {host}:{port}: {why}", advice="choose another `host` or `port`") from exc
    # asyncio does that only for sockets that name the protocol; without it, a response waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
