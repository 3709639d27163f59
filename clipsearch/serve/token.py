"""The token of a server: made or taken from the environment, and published to programs of the same user.

A server writes its token to a file that only its user can read, and holds a lock on it. The file is named after the
address and port that the server listens on, and a client looks for the name of the address it is connected to: the
token of a server on 127.0.0.1 is not for whoever listens on the same port of [::1]. It reads the file only while it is
locked: the file of a server that was killed counts for nothing. All files are opened relative to a folder whose owner
and mode have been checked, so no other user can put a link or a file of theirs in the way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from clipsearch.errors import UsageError

VARIABLE = "CLIPSEARCH_TOKEN"

_VALID = re.compile(r"[A-Za-z0-9._~+/-]{22,512}=*")
"""What `Authorization: Bearer` can carry (RFC 6750), with 128 bits if each character has six."""

_REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_LOOPBACK = re.compile(r"127(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def new_token() -> str:
    """256 random bits, as 43 characters that need no quoting in URLs, cookies and headers."""
    import secrets

    return secrets.token_urlsafe(32)


def server_token() -> str:
    """The token in `$CLIPSEARCH_TOKEN`, or a new one. Raises UsageError if the variable's is weak or malformed."""
    token = os.environ.get(VARIABLE, "")
    if not token:
        return new_token()
    if not _VALID.fullmatch(token):
        raise UsageError(
            f"the token in ${VARIABLE} is too short, or has characters that a header cannot carry",
            advice="use at least 22 random letters and digits, such as the output of `openssl rand -hex 32`",
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without brackets, always means this machine."""
    name = host.removesuffix(".").lower()
    return name in ("localhost", "::1") or _LOOPBACK.fullmatch(name) is not None


def reached(address: str) -> str:
    """The address at which programs on this machine reach a server that listens on `address`."""
    return _REACHED.get(address, address)


@contextlib.contextmanager
def publish(address: str, port: int, token: str) -> Iterator[None]:
    """Let clients of the same user find the token while the block runs, if there is a folder for it.

    It replaces the file of an earlier server at the address, and is removed at the end unless a later one replaced it.
    """
    with contextlib.ExitStack() as stack:
        for folder in _folders():
            with contextlib.suppress(OSError):
                stack.enter_context(_written(folder, f"{reached(address)}:{port}", token))
                break
        yield


def find(address: str, port: int) -> str | None:
    """The token of a server of the same user, for the peer of a connection; None if there is none."""
    if not is_loopback(address):
        return None
    for folder in _folders():
        with contextlib.suppress(OSError), _opened(folder) as place:
            if token := _published(place, f"{address}:{port}"):
                return token
    return None


def _folders() -> Iterator[Path]:
    """Where a token's file may be: the user's runtime directory, or a folder for temporary files where there is none.

    The client may run where the environment names no runtime directory, as in a cron job. None is in the home folder:
    other machines may share that, and the address would mean another server there.
    """
    user = os.geteuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"):
        if os.path.isabs(base) and os.path.isdir(base):
            yield Path(base) / "clipsearch"
    yield Path(os.environ.get("TMPDIR") or "/tmp") / f"clipsearch-{user}"


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of a folder that only its owner, this user, can use. Raises OSError if it is anything else."""
    descriptor = os.open(folder, _FOLDER)
    try:
        _check(os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _check(status: os.stat_result) -> None:
    """Raises PermissionError if another user owns a file or folder, or may use it."""
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError("not private")


@contextlib.contextmanager
def _written(folder: Path, name: str, token: str) -> Iterator[None]:
    """The file with the token, locked, while the block runs. Raises OSError where it cannot be written."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    with _opened(folder) as place:
        temporary = f".{name}.{os.urandom(4).hex()}"
        descriptor = os.open(temporary, _NEW, 0o600, dir_fd=place)
        current = temporary
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, token.encode())
            os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
            current = name
            yield
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(current, dir_fd=place, follow_symlinks=False), os.fstat(descriptor)):
                    os.unlink(current, dir_fd=place)
            os.close(descriptor)


def _published(place: int, name: str) -> str | None:
    """The token in a file of the folder, if a server still holds its lock. Raises OSError."""
    descriptor = os.open(name, _READ, dir_fd=place)
    try:
        _check(os.fstat(descriptor))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            token = os.read(descriptor, 1024).decode(errors="replace")
            return token if _VALID.fullmatch(token) else None
        return None
    finally:
        os.close(descriptor)
