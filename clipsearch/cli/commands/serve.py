"""`clipsearch serve`: its options, and the address that it shows."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from typing import Annotated

import typer

from clipsearch.cli import options, output, place
from clipsearch.cli.options import Texts, flag, value
from clipsearch.errors import ClipsearchError, UsageError


def serve(
    *,
    index: options.Index = None,
    host: Annotated[
        str, value("--host", "HOST", "The address to listen on. Others than this machine's own need a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
    read_only: Annotated[bool, flag("--read-only", "Do not let anyone start index runs.")] = False,
    allow_index: Annotated[
        bool, flag("--allow-index", "Allow index runs even if other machines can reach the server.")
    ] = False,
    allow_host: Annotated[
        Texts, value("--allow-host", "NAME", "Another name by which the server is reached; repeatable.")
    ] = None,
    root_path: Annotated[
        str, value("--root-path", "PATH", "The path at which a proxy shows the server, such as /photos.")
    ] = "",
    behind_proxy: Annotated[
        bool, flag("--behind-proxy", "Believe the X-Forwarded headers of a proxy. Needs a token.")
    ] = False,
    token: Annotated[bool, flag("--token", "Require a token on this machine, too. $CLIPSEARCH_TOKEN sets it.")] = False,
    open_: Annotated[bool, flag("--open", "Open the page in the desktop's browser.")] = False,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
) -> int:
    """Serve a library to a web page, to programs and to other people.

    Prints the address to open. Ctrl-C stops the server. Needs the extra `web`.
    """
    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError("`clipsearch serve` needs the extra web: pip install 'clipsearch[web]'")
    folder = place.require_library(index)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # Searches have a thread each.
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.serve import server
    from clipsearch.serve.token import VARIABLE

    settings = server.Settings(
        host=host,
        port=port,
        read_only=read_only,
        allow_index=allow_index,
        allow_host=tuple(allow_host or ()),
        root_path=root_path,
        behind_proxy=behind_proxy,
        token=token,
    )

    with tempfile.NamedTemporaryFile("w", suffix=".html") as page:

        def ready(address: str, secret: str | None) -> None:
            output.say(f"serving the library in {folder}; Ctrl-C stops it")
            with_token = f"{address}?token={secret}" if secret else address
            if secret and os.environ.get(VARIABLE):  # It is known, and the output may be kept in a log.
                output.note(f"the token is the one in ${VARIABLE}; add ?token=… to the address to sign in")
                output.write(f"{address}\n")
            else:
                output.write(f"{with_token}\n")
            output.flush()
            if open_:
                # Other users of the machine see the arguments of a browser, and the address may contain a token.
                page.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={with_token}">')
                page.flush()
                _open(page.name)

        loading = EncoderOptions(device=device, arch=arch, trust_checkpoint=trust_checkpoint)
        server.serve(folder, settings, loading, ready=ready)
    return 0


def _open(page: str) -> None:
    from clipsearch.display.viewer import show

    try:
        show([page])
    except ClipsearchError as exc:
        output.note(str(exc))
