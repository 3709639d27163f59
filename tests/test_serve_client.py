"""`clipsearch query --server`: the output of a local query, from a real server; and what may go wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, Ran
from PIL import Image
from servers import Server, served
from terminal import on_terminal

from clipsearch.cli import remote
from clipsearch.cli.run import main
from clipsearch.errors import ClipsearchError, EncoderError, NoLibraryError
from clipsearch.serve import limits, problems
from clipsearch.serve.problems import UnavailableError

LATIN = b"caf\xe9"
"""A name that is not UTF-8."""


@pytest.fixture(scope="module")
def folder(cli: Cli, indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of `photos`, one of them in a folder and with a name that are not UTF-8, and images beside it."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(indexed / "photos", folder / "photos")
    latin = bytes(folder / "photos") + b"/" + LATIN
    Path(latin.decode(errors="surrogateescape")).mkdir()
    shutil.copy(folder / "photos" / "chelsea.png", latin + b"/" + LATIN + b".png")
    (folder / "photos" / "[a]*").mkdir()
    shutil.copy(folder / "photos" / "rocket.jpg", folder / "photos" / "[a]*" / "one.jpg")
    assert cli("index", "photos", "--model", "builtin", cwd=folder).code == 0
    shutil.copy(folder / "photos" / "coffee.png", folder / "a^2.png")
    shutil.copy(folder / "photos" / "rocket.jpg", (folder / 'new "photo".jpg'))
    (folder / "cut.png").write_bytes((folder / "photos" / "chelsea.png").read_bytes()[:60_000])
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "large.tif").touch()
    with open(folder / "large.tif", "r+b") as large:
        large.truncate(40 * 2**20)
    (folder / "queries.txt").write_text("".join(f"a cat {n}\n\n" for n in range(70)) + "id:1\na dog^2\n")
    return folder


@pytest.fixture(scope="module")
def server(cli: Cli, folder: Path) -> Iterator[Server]:
    with served(cli, folder) as running:
        yield running


class Query:
    """Runs `clipsearch query` in this process, which takes a tenth of the time."""

    def __init__(self, cli: Cli, folder: Path, put: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]) -> None:
        self._put, self._capture = put, capture
        put.chdir(folder)
        for name in ("CLIPSEARCH_INDEX", "CLIPSEARCH_SERVER", "CLIPSEARCH_TOKEN"):
            put.delenv(name, raising=False)
        for name in ("CLIPSEARCH_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "HOME", "XDG_RUNTIME_DIR"):
            put.setenv(name, cli.env[name])

    def __call__(self, *arguments: str | bytes, **env: str) -> Ran:
        self._capture.readouterr()
        with self._put.context() as put:
            for name, value in env.items():
                put.setenv(name, value)
            code = main(["query", *map(os.fsdecode, arguments)])
        out, err = self._capture.readouterr()
        return Ran(code, out, err.decode())

    def both(self, server: Server, *arguments: str | bytes, index: str = "index") -> tuple[Ran, Ran]:
        """What a query says here, and with the server, whose name is taken out of it."""
        here = self(*arguments, "--index", index)
        return here, without_name(self(*arguments, "--server", str(server.url)), server)


@pytest.fixture
def query(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Query:
    return Query(cli, folder, monkeypatch, capfdbinary)


def without_name(ran: Ran, server: Server) -> Ran:
    named = f"note: answered by {server.url}\n"
    assert ran.err.count(named) == (ran.code == 0)
    return Ran(ran.code, ran.out, ran.err.replace(named, ""))


# The same answers as from a library


@pytest.mark.parametrize(
    "form", [[], ["--json"], ["--jsonl"], ["--csv"], ["-0"]], ids=["paths", "json", "jsonl", "csv", "null"]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["a", "cat"],
        ["a cat^2", "--with", "photos/coffee.png^0.5", "--without", "id:2", "--unfold"],
        ["photos/chelsea.png#10%,0,33.3%,100", "-k", "2", "--page", "2"],
    ],
    ids=["text", "terms", "part"],
)
def test_every_form_is_that_of_a_local_query(
    query: Query, server: Server, arguments: list[str], form: list[str]
) -> None:
    here, there = query.both(server, *arguments, *form)
    assert here == there and here.code == 0 and here.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["id:1"],
        ["id:1^3", "--like", "id:2"],
        ["photos/chelsea.png", "--like", "./photos/chelsea.png", "--like", "photos/coffee.png"],
        ["photos/coffee.png", "--like", "photos/coffee-again.png^2"],
        ["photos/coffee.png", "--text"],
        ["id:1", "--text", "--no-cache"],
        ["", "--text"],
        ["image:0", "--like", "photos/coffee.png"],
        ["image:0", "--with", "image:1#1,2,3,4^2"],
        ["in", "the snow^2^1"],
        ["a^2.png"],
        ["a^2.png^0.5", "--with", "x"],
        ['new "photo".jpg', "--without", 'new "photo".jpg#0,0,50%,50%'],
        [b"photos/" + LATIN + b"/" + LATIN + b".png"],
        [b"photos/" + LATIN + b"/" + LATIN + b".png#0,0,50%,50%"],
        ["cut.png"],
        ["cut.png#0,0,100%,20"],
        ["a cat", "--with", "a dog", "--all"],
        ["a cat", "--without", "a dog"],
        ["猫", "--without", "狗"],
        ["a cat", "--relevant"],
        ["a cat", "--sort", "path"],
        ["a cat", "--page", "9"],
        ["a cat", "--in", "photos"],
        ["a cat", "--in", b"photos/" + LATIN],
        ["a cat", "--in", "photos/[a]*"],
        ["a cat", "--in", "*e.png", "--in", "rocket.jpg"],
        ["a cat", "--in", "pho*/c*"],
        ["a cat", "--in", "nowhere"],
        ["a cat", "--format", "jpg", "--min-size", "600x400", "--landscape", "--state", "ok"],
        ["a cat", "--taken", "2009-02", "--indexed-since", "2020-01-01", "--name", "CHEL"],
        ["a cat", "--tag", "x", "--caption", "y", "--camera", "z", "--rating", "4..", "--near", "1,2,3", "--portrait"],
        ["a cat", "--model", "builtin"],
    ],
    ids=repr,
)
def test_every_option_means_what_it_means_locally(query: Query, server: Server, arguments: list[str | bytes]) -> None:
    here, there = query.both(server, *arguments, "--json")
    assert here == there and here.code == 0


def test_places_are_relative_to_the_folder_of_the_client(
    query: Query, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("photos")
    for place in (".", "[a]*", "../photos", "[[]a]*/*", "../photos/c*"):
        here, there = query.both(server, "a cat", "--in", place, index="../index")
        assert here == there and here.out, place


def test_places_may_be_named_through_links(query: Query, server: Server, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link").symlink_to(folder / "photos")
    for place in ("link", "link/", "link/c*", "link/[[]a]*", "l?nk/*", "link/nowhere"):
        here, there = query.both(server, "a cat", "--in", f"{tmp_path}/{place}", "--unfold")
        assert here == there and bool(here.out) == (place not in ("l?nk/*", "link/nowhere")), place


def test_places_in_base64_are_checked(server: Server) -> None:
    for place in (b"", b"photos", b"/a\0b", b"*", b"[", b"\xff"):
        found = server.post("search", {"q": "a cat", "in-b64": [b64encode(place).decode()]})
        assert (found.status_code, found.json()["exit_code"]) == (400, 2), place
    for text in ("%", "é", "YQ"):
        assert server.get("search", **{"q": "a cat", "in-b64": text}).status_code == 400, text
    for place in (b"/", b"*/*", b"/[", b"/" + b"a/" * 700, b"/\xff[!", b"*/\xe9[[]"):
        found = server.post("search", {"q": "a cat", "in-b64": [b64encode(place).decode()]})
        assert found.status_code == 200 and bool(found.json()["hits"]) == (place in (b"/", b"*/*")), place


def test_a_table_is_the_same(cli: Cli, folder: Path, server: Server) -> None:
    command = cli.command("query", "a cat", "--unfold")
    here = on_terminal([*command, "--index", "index"], cwd=folder, env=cli.env)
    assert "score" in here
    assert on_terminal([*command, "--server", str(server.url)], cwd=folder, env=cli.env) == here


def test_standard_input_may_be_sent(cli: Cli, folder: Path, server: Server) -> None:
    for name in ("photos/rocket.jpg", "cut.png", "bad.jpg", "queries.txt"):
        data = (folder / name).read_bytes()
        here = cli("query", "-", "--json", cwd=folder, input=data)
        there = cli("query", "-", "--json", "--server", str(server.url), cwd=folder, input=data)
        assert here == without_name(there, server), name
    nothing = cli("query", "--file", "-", "--server", str(server.url), cwd=folder, input=b"\n")
    assert nothing == Ran(0, b"", "")


def test_many_queries_come_from_a_file(query: Query, server: Server) -> None:
    here, there = query.both(server, "--file", "queries.txt", "-k", "2", "--in", "photos")
    assert here == there and len(here.lines) == 72


@pytest.mark.parametrize(
    "arguments",
    [
        ["id:99999"],
        ["a cat^-1"],
        ["nothing.jpg"],
        ["photos/"],
        ["bad.jpg"],
        ["a cat", "--with", "bad.jpg#0,0,1,1"],
        ["cut.png#9999,0,1,1"],
        ["a cat", "--like", "none.jpg"],
        ["a cat", "--with", "photos/coffee.png^2", "--all"],
        ["a cat", "--without", "a dog", "--relevant"],
        ["a cat", "--taken", "soon"],
        ["a cat", "--in", ""],
        ["a cat", "--landscape", "--portrait"],
        ["a cat", "--json", "--csv"],
        ["a cat", "--file", "queries.txt"],
        ["--file", "none.txt"],
        ["a cat", "--with", LATIN],
        ["a cat", "--camera", LATIN],
        [],
    ],
    ids=repr,
)
def test_errors_are_those_of_a_local_query(query: Query, server: Server, arguments: list[str | bytes]) -> None:
    here, there = query.both(server, *arguments)
    assert here == there and (here.code, here.out) == (2, b"")


def test_a_model_that_the_library_does_not_hold_has_its_exit_code(query: Query, server: Server) -> None:
    for model in ("ViT-B/32", "nonsense"):
        here, there = query.both(server, "a cat", "--model", model)
        assert here.code == there.code != 0 and model in there.err


# What cannot be sent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["large.tif"], "large.tif: a server takes 32 MiB in one query"),
        (["id:1", "--like", "large.tif"], "large.tif: a server takes 32 MiB in one query"),
        (["a cat", "--with", "image:0", "--like", "cut.png"], "image:0: these words name a picture of the request"),
        (["a cat", "-k", "1001"], "k: "),
        (["a cat", "--copy-to", "copies"], "--copy-to needs the files, which are on the server's machine"),
        (["a cat", "--link-to", "links"], "--link-to needs the files"),
        (["a cat", "--preview"], "--preview needs the files"),
        (["a cat", "--open"], "--open needs the files"),
        (["a cat", "--index", "index"], "--server and --index exclude one another"),
    ],
)
def test_what_a_server_cannot_do_is_refused(query: Query, server: Server, arguments: list[str], said: str) -> None:
    ran = query(*arguments, "--server", str(server.url))
    errors = [line for line in ran.err.splitlines() if not line.startswith("note: looking for pictures like")]
    assert (ran.code, ran.out, len(errors)) == (2, b"", 1) and said in errors[0]


def test_texts_that_are_too_long_for_a_server_are_named(query: Query, folder: Path, server: Server) -> None:
    (folder / "long.txt").write_text(f"a cat\n\n{'ä' * 2000}\n{'x' * 2001}\n")
    ran = query("--file", "long.txt", "--server", str(server.url))
    assert ran == Ran(2, b"", "error: --file long.txt: line 4 has 2,001 characters; a server takes 2,000\n")
    (folder / "long.txt").write_text("猫𝄞" * 1000 + "\n")
    here, there = query.both(server, "--file", "long.txt", "-k", "1")
    assert here == there and here.code == 0
    for arguments, said in ((["y" * 2001], "the query has 2,001"), (["a", "--tag", "y" * 2001], "--tag has 2,001")):
        ran = query(*arguments, "--server", str(server.url))
        assert ran == Ran(2, b"", f"error: {said} characters; a server takes 2,000\n")


def test_the_documented_limits_are_those_of_the_code() -> None:
    docs = Path(__file__).parent.parent / "docs"
    body = f"{limits.MAX_BODY >> 20} MiB, {limits.MAX_PARTS} parts"
    values = body, f"{limits.MAX_TEXTS}, {limits.MAX_IMAGES}", f"{limits.MAX_TEXT:,} char", f"{limits.MAX_K:,}"
    values += f"{limits.MAX_JSON >> 20} MiB", f"{limits.READING_S:.0f} seconds", f"{limits.MAX_HITS:,}"
    table = (docs / "serving.md").read_text().partition("## Limits")[2].partition("\n## ")[0]
    assert [value for value in values if f"| {value}" not in table] == []
    asked = (docs / "queries.md").read_text()
    assert f"{limits.MAX_BODY >> 20} MiB in all. `-k` is at most {limits.MAX_K:,}" in asked and "up to seven" in asked
    assert limits.MAX_PARTS == 7 + 1


def test_more_images_than_a_form_holds_are_refused(query: Query, folder: Path, server: Server) -> None:
    for number in range(8):
        shutil.copy(folder / "photos" / "coffee.png", folder / f"copy{number}.png")
    likes = [word for number in range(8) for word in ("--like", f"copy{number}.png")]
    here, there = query.both(server, "a cat", *likes[:14], "--json")
    assert here == there and here.code == 0
    ran = query("a cat", *likes, "--server", str(server.url))
    assert (ran.code, ran.err) == (2, "error: a server takes at most 7 pictures in one query\n")


def test_the_variable_names_a_server_unless_a_library_is_given(query: Query, server: Server) -> None:
    env = {"CLIPSEARCH_SERVER": str(server.url)}
    assert "answered by" in query("a cat", **env).err
    assert "answered by" not in query("a cat", "--index", "index", **env).err
    assert "answered by" not in query("a cat", **{"CLIPSEARCH_SERVER": ""}).err
    refused = query("a cat", "--copy-to", "x", **env)
    assert refused.code == 2 and "--index DIR opens a library here" in refused.err
    assert query("a cat", "--copy-to", "x", "--index", "index", **env).code == 0
    gone = query("a cat", "--server", "http://127.0.0.1:9", **env)
    assert gone.code == 1 and "127.0.0.1:9" in gone.err


# Addresses


def test_an_address_may_be_short(query: Query, server: Server) -> None:
    port = server.url.port
    for url in (f"localhost:{port}", f"127.0.0.1:{port}", f"HTTP://localhost:{port}", f"http://localhost:{port}/"):
        ran = query("a cat", "--server", url)
        assert ran.code == 0 and f":{port}/\n" in ran.err, url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            " ",
            "http://",
            "ftp://host/",
            "http://host:0/",
            "http://host:99999/",
            "http://host:port/",
            "http://[::1/",
        ),
        *(
            "http://user:secret@host/",
            "http://host/?q=x",
            "http://host/#top",
            "http://a host/",
            "/path",
            "unix:///run/x",
        ),
        *("http://host/?token=", "http://host/?token=a&q=b", "http://ho\nst/"),
    ],
)
def test_an_address_that_is_none_is_an_invalid_argument(query: Query, url: str) -> None:
    ran = query("a cat", "--server", url)
    assert (ran.code, ran.out) == (2, b"") and ran.err.count("\n") == 1 and "secret" not in ran.err
    assert ran.err.startswith(("error: the server's address", "error: the token in the address"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9/", "no server at http://127.0.0.1:9/; start one with `clipsearch serve`"),
        ("http://name.invalid/", "there is no host named name.invalid"),
        ("http://-.example..com/", "there is no host named"),
        ("http://bücher.invalid/ä", "there is no host named bücher.invalid"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(query: Query, url: str, said: str) -> None:
    ran = query("a cat", "--server", url)
    assert (ran.code, ran.out) == (1, b"") and said in ran.err and ran.err.count("\n") == 1


# Tokens


def test_a_token_is_found(query: Query, cli: Cli, folder: Path, tmp_path: Path) -> None:
    elsewhere = {"HOME": str(tmp_path), "CLIPSEARCH_CACHE": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    with served(cli, folder, "--token") as running:
        url, token = str(running.url), running.address.partition("token=")[2]

        def asked(url: str, **env: str) -> Ran:
            return query("photos/chelsea.png", "--server", url, **env)

        found = asked(url)
        assert found.code == 0 and len(token) == 43  # in the file of the same user's server
        for ran in (asked(running.address, **elsewhere), asked(url, **elsewhere, CLIPSEARCH_TOKEN=token)):
            assert ran == found and token not in ran.err
        wrong = asked(url, CLIPSEARCH_TOKEN="x" * 43)
        assert (wrong.code, wrong.out) == (1, b"") and "does not accept the token from $CLIPSEARCH_TOKEN" in wrong.err
        odd = asked(url, CLIPSEARCH_TOKEN="a b\n")
        assert (odd.code, odd.out) == (2, b"") and odd.err.count("\n") == 1


def test_a_token_is_not_for_another_program_on_the_same_port(query: Query, cli: Cli, folder: Path) -> None:
    with served(cli, folder, "--token") as running:
        port, token = running.url.port, running.address.partition("token=")[2]
        for host, at in (("::1", f"[::1]:{port}"), ("127.0.0.2", f"127.0.0.2:{port}")):
            with impostor(response("401 Unauthorized"), host=host, port=port) as other:
                ran = query("a cat", "--server", f"http://{at}/")
            assert ran.code == 1 and "needs a token" in ran.err and len(other.requests) == 1
            assert token.encode() not in other.requests[0] and b"authorization" not in other.requests[0].lower()
        assert query("a cat", "--server", str(running.url)).code == 0


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", None)]
)
def test_the_printed_address_is_the_one_that_the_server_listens_on(
    query: Query, cli: Cli, folder: Path, host: str, shown: str | None
) -> None:
    with served(cli, folder, "--token", "--host", host) as running:
        assert running.address.startswith(f"http://{shown}:" if shown else ("http://127.0.0.1:", "http://[::1]:"))
        assert query("a cat", "--server", str(running.url)).code == 0  # with the token from the file


def test_a_name_of_the_server_is_in_the_printed_address(cli: Cli, folder: Path) -> None:
    with served(cli, folder, "--host", "0.0.0.0", "--allow-host", "nas.local", "--allow-host", "nas") as running:
        assert running.address.startswith("http://nas.local:")


def test_a_token_from_the_variable_is_not_printed(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "serve.err").unlink(missing_ok=True)
    monkeypatch.setitem(cli.env, "CLIPSEARCH_TOKEN", "t" * 43)
    with served(cli, folder, "--token") as running:
        assert running.address == str(running.url)
        assert running.get("status").status_code == 401
        assert running.client.get("/", params={"token": "t" * 43}).status_code == 303
    written = (folder / "serve.err").read_text()
    assert "note: the token is the one in $CLIPSEARCH_TOKEN" in written and "t" * 43 not in written
    with served(cli, folder):  # It requires none.
        pass
    assert (folder / "serve.err").read_text().count("CLIPSEARCH_TOKEN") == 1


def test_the_token_is_withdrawn_before_the_port_is_free(cli: Cli, folder: Path) -> None:
    with served(cli, folder, "--token") as running:
        address = (running.url.host, running.url.port)
        path = Path(cli.env["XDG_RUNTIME_DIR"]) / "clipsearch" / f"{running.url.host}:{running.url.port}"
        assert path.exists()
        with socket.create_connection(address) as waiting:  # for the end of its request, which the server awaits
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            running.process.send_signal(signal.SIGTERM)
            with suppress(ConnectionRefusedError):
                while True:
                    socket.create_connection(address).close()
            assert not path.exists()
        assert running.process.wait(5) == 0


# Other programs at the address


def response(status: str = "200 OK", kind: str = "application/json", body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def problem(status: str, *headers: str, **members: Any) -> bytes:
    return response(status, "application/problem+json", json.dumps(members).encode(), *headers)


class Impostor:
    """Sends the given bytes, one of them for each connection and the last one again and again."""

    def __init__(self, *answers: bytes, hold: bool = False, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[bytes] = []
        self._answers = list(answers)
        self._hold = hold
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._ended.is_set():
                    return
                connection.settimeout(5)
                self.requests.append(self._request(connection))
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                try:
                    connection.sendall(answer)
                    if self._hold:
                        self._ended.wait()
                except OSError:
                    pass  # The client has seen enough.

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        data = b""
        while piece := connection.recv(65536):
            data += piece
            head, ends, body = data.partition(b"\r\n\r\n")
            lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length")]
            if ends and len(body) >= int(lengths[0] if lengths else 0):
                break
        return data

    def close(self) -> None:
        self._ended.set()
        socket.create_connection(self._listener.getsockname()[:2]).close()
        self._thread.join()
        self._listener.close()


@contextmanager
def impostor(*answers: bytes, **options: Any) -> Iterator[Impostor]:
    running = Impostor(*answers, **options)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    value: dict[str, Any] = server.get("search", q="a cat").json()
    return value


HITS = "is not one of `clipsearch serve`"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", HITS),
        (b"SSH-2.0-OpenSSH_9.6\r\n", HITS),
        (b"HTTP/1.1 200 OK\r\nContent-Le", HITS),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", HITS),
        (b"HTTP/1.1 999999999999 OK\r\n\r\n", HITS),
        (response(body=b""), HITS),
        (response(body=b"{}"), HITS),
        (response(body=b"[]"), HITS),
        (response(body=b"null"), HITS),
        (response(body=b'{"schema_version": 1}'), HITS),
        (response(body=b'{"schema_version": 2, "hits": []}'), "newer version"),
        (response(body=b"[" * 100_000), HITS),
        (response(body=b"\xff\xfe{}"), HITS),
        (response(kind="text/html", body=b"<!doctype html><title>router</title>"), HITS),
        (response()[:-2].replace(b": 0", b": 999") + b'\r\n{"schema', HITS),
        (response().replace(b": 0", b": 99999999999999"), "it has more than 128 MiB"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", HITS),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", HITS),
        (response("404 Not Found", "text/html", b"<h1>Not Found</h1>"), "HTTP 404"),
        (problem("404 Not Found", detail="Not Found"), "HTTP 404"),
        (response("500 Internal Server Error"), "HTTP 500"),
        (response("502 Bad Gateway", "text/html", b"nginx"), "does not reach `clipsearch serve` (HTTP 502)"),
        (response("503 Service Unavailable", "text/html", b"nginx"), "does not reach `clipsearch serve` (HTTP 503)"),
        (response("413 Too Large", "text/html", b"nginx"), "too large for a proxy"),
        (response("204 No Content"), "HTTP 204"),
        (response("401 Unauthorized", "text/html", b"x"), "needs a token; set $CLIPSEARCH_TOKEN"),
        (problem("403 Forbidden", detail="not\x1b[31m you\nor me"), "error: not\\x1b[31m you\\nor me"),
        (problem("421 Misdirected", detail="start it with --allow-host x."), "error: start it with --allow-host x."),
        (problem("400 Bad Request", detail=5), "HTTP 400"),
        (problem("400 Bad Request", detail="\ud800"), "HTTP 400"),
        (response("400 Bad Request", "application/problem+json", b"[]"), "HTTP 400"),
        (response("302 Found", "text/html", b"", "Location: https://else.where/\x1b[2J"), "redirects to https://else"),
    ],
)
def test_another_program_is_one_line(query: Query, sent: bytes, said: str) -> None:
    with impostor(sent) as other:
        ran = query("a cat", "--server", other.url)
    assert (ran.code, ran.out) == (1, b"") and said in ran.err and "\x1b" not in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("id", "1"), ("id", None), ("id", True), ("id", 10**400), ("bytes", 1e400), ("score", "high")),
        *(("score", float("nan")), ("relevance", 10**9), ("rating", 10**12), ("state", "\ud800"), ("box", [1, 2, 3])),
        *(
            ("box", [0, 0, 10**12, 5]),
            ("box", "abcd"),
            ("paths", None),
            ("paths", [5]),
            ("path", 5),
            ("path", "\ud800"),
        ),
        *(("path_b64", "%"), ("path_b64", 5), ("paths_b64", [None]), ("taken_at", 5), ("format", ["x"])),
        *(("also", [{}]), ("also", [{"id": 1, "path": "x", "format": 5}]), ("explain", [5]), ("keywords", 5)),
        *(("caption", ["x"]), ("width", -1.5)),
    ],
)
def test_a_hit_that_makes_no_sense_is_one_line(query: Query, answer: dict[str, Any], key: str, value: object) -> None:
    plain = next(hit for hit in answer["hits"] if "path_b64" not in hit and "paths_b64" not in hit)
    hits = [{**plain, key: value}]
    with impostor(response(body=json.dumps({**answer, "hits": hits}).encode())) as other:
        ran = query("a cat", "--server", other.url)
    assert (ran.code, ran.out) == (1, b"") and HITS in ran.err and "\x1b" not in ran.err and ran.err.count("\n") == 1


ODD = "\x1b[2J\x9b31m\u202e\na"


def test_odd_texts_reach_neither_terminal_nor_page(
    query: Query, cli: Cli, folder: Path, answer: dict[str, Any]
) -> None:
    keys = ("taken_at", "taken_source", "place_source", "format", "state", "caption", "path")
    explain, also = [{"label": ODD, "score": 1}], [{"id": 1, "path": ODD, "format": ODD}]
    about = {"lat": 1, "lon": 2, "paths": [ODD, ODD], "keywords": [ODD], "explain": explain, "also": also}
    plain = next(hit for hit in answer["hits"] if "path_b64" not in hit and "paths_b64" not in hit)
    hit = {**plain, **dict.fromkeys(keys, ODD), **about}
    odd = {**answer, "hits": [hit], "model": ODD, "score_kind": ODD, "notices": [ODD], "notice_kinds": [ODD]}
    found = response(body=json.dumps(odd).encode())
    for arguments in ([], ["--json"], ["--jsonl"], ["--csv"]):
        with impostor(found) as other:
            command = cli.command("query", "a cat", *arguments, "--server", other.url)
            shown = on_terminal(command, cwd=folder, env=cli.env | {"NO_COLOR": "1", "TERM": "dumb"})
        assert "u202e" in shown and not re.search("[\x1b\x9b\u202e]", shown), arguments
    with impostor(found, problem("404 Not Found", detail=ODD, exit_code=2)) as other:
        ran = query("a cat", "--html", "odd.html", "--server", other.url)
    assert ran.code == 0 and "note: \\x1b[2J\\x9b31m\\u202e\\na\n" in ran.err
    assert not re.search("[\x1b\x9b\u202e]", (folder / "odd.html").read_text())


def test_keys_of_another_version_do_no_harm(query: Query, answer: dict[str, Any]) -> None:
    newer = {**answer, "more": 1, "hits": [{**hit, "more": [1]} for hit in answer["hits"]]}
    newer["notices"], newer["notice_kinds"] = ["mind the gap\x1b[31m"], ["of another kind"]
    optional = (
        "relevance",
        "view",
        "box",
        "also",
        "explain",
        "keywords",
        "rating",
        "unreadable",
        "lat",
        "place_source",
    )
    older = {key: value for key, value in answer.items() if not key.startswith("relevant")}
    older["hits"] = [{key: hit[key] for key in hit if key not in optional} for hit in answer["hits"]]
    for value in (newer, older):
        with impostor(response(body=json.dumps(value).encode())) as other:
            ran = query("a cat", "--server", other.url)
        assert ran.out == query("a cat").out
        assert ("note: mind the gap\\x1b[31m\n" in ran.err) == (value is newer)


def test_the_exit_code_of_a_problem_is_that_of_a_command(query: Query) -> None:
    for code, left in ((2, 2), (4, 4), (5, 5), (75, 75), (0, 1), (99, 1), (-1, 1), (10**30, 1), (None, 1)):
        with impostor(problem("409 Conflict", detail="`match_all=True` is no good", exit_code=code)) as other:
            ran = query("a cat", "--server", other.url)
        assert (ran.code, ran.err) == (left, "error: --all is no good\n")


def test_a_busy_server_is_asked_again(query: Query, answer: dict[str, Any]) -> None:
    busy = problem("503 Service Unavailable", "Retry-After: 0", detail="loading")
    with impostor(busy, busy, response(body=json.dumps(answer).encode())) as other:
        ran = query("photos/chelsea.png", "--server", other.url)
    assert ran.code == 0 and len(other.requests) == 3
    # Never for long, and not where it does not say that it will be better.
    for header in (["Retry-After: 3600"], []):
        with impostor(problem("503 Service Unavailable", *header, detail="no model; try again")) as other:
            ran = query("a cat", "--server", other.url)
        assert (ran.code, ran.err, len(other.requests)) == (1, "error: no model; try again\n", 1)


def test_a_token_goes_to_the_given_server_only(query: Query) -> None:
    with impostor(response(body=b"{}")) as target:
        with impostor(response("307 Moved", "text/html", b"", f"Location: {target.url}")) as other:
            ran = query("a", "--server", other.url, CLIPSEARCH_TOKEN="t" * 43)
        assert ran.code == 1 and target.url in ran.err and not target.requests
        assert b"Authorization: Bearer " + b"t" * 43 in other.requests[0]


def test_proxies_of_the_environment_are_not_used(query: Query, server: Server) -> None:
    env = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    assert query("a cat", "--server", str(server.url), **env).code == 0


def test_the_request_is_below_the_path_of_the_address(query: Query, answer: dict[str, Any]) -> None:
    with impostor(response(body=json.dumps(answer).encode())) as other:
        ran = query("a cat", "--server", f"{other.url}my photos/é/".replace(" ", "%20"))
    assert ran.code == 0 and other.requests[0].startswith(b"POST /my%20photos/%C3%A9/api/v1/search HTTP/1.1\r\n")


def test_no_server_is_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote, "_SILENCE_S", 0.5)
    monkeypatch.setattr(remote, "_PATIENCE_S", 0.5)
    for start in (b"", b"HTTP/1.1 200 OK\r\nA: ", response().replace(b": 0", b": 100000"), b"HTTP/1.1 200 OK\r\n\r\n"):
        with impostor(start, hold=True) as other, pytest.raises(ClipsearchError, match="does not answer in time"):
            remote.Server(other.url).query_many(["a cat"], k=1, where=None, filters={}, model=None)
    busy = problem("503 Service Unavailable", "Retry-After: 0", detail="too many")
    with impostor(busy) as other, pytest.raises(ClipsearchError, match=r"^too many$"):
        remote.Server(other.url).query_many(["a cat"], k=1, where=None, filters={}, model=None)
    assert len(other.requests) > 1


def test_a_page_is_the_same(query: Query, folder: Path, server: Server) -> None:
    pages = []
    for source in (["--index", "index"], ["--server", str(server.url)]):
        ran = query("a cat", "--unfold", "--json", "--html", "page.html", *source)
        assert ran.code == 0 and "pictures on the page page.html" in ran.err
        pages.append((folder / "page.html").read_bytes())
    assert pages[0] == pages[1] and pages[0].count(b"data:image/jpeg") == 7
    (folder / "page.html").write_text("mine")
    refused = query("a cat", "--html", "page.html", "--server", str(server.url))
    assert refused.code == 2 and (folder / "page.html").read_text() == "mine"


def test_thumbnails_that_a_page_cannot_show_have_a_reason(query: Query, folder: Path, answer: dict[str, Any]) -> None:
    assert query("a cat", "--html", "here.html", "--index", "index").code == 0
    here = (folder / "here.html").read_bytes()
    jpegs = [b64decode(data) for data in re.findall(rb"data:image/jpeg;base64,([^\"]+)", here)]
    assert len(jpegs) == len(answer["hits"]) == 4
    found = response(body=json.dumps(answer).encode())
    with impostor(found, *(response(kind="image/jpeg", body=jpeg) for jpeg in jpegs)) as other:
        ran = query("a cat", "--html", "there.html", "--server", other.url)
        assert ran.code == 0 and ran.out and (folder / "there.html").read_bytes() == here
        ids = [request.split()[1] for request in other.requests[1:]]
        assert ids == [f"/api/v1/images/{hit['id']}/thumbnail".encode() for hit in answer["hits"]]
    odd = (
        problem("404 Not Found", detail="no file", exit_code=2),
        response(body=b"<svg/>"),
        response(body=jpegs[2][:99]),
    )
    with impostor(found, *odd, response(body=jpegs[3])) as other:
        assert query("a cat", "--html", "there.html", "--server", other.url).code == 0
    page = (folder / "there.html").read_text()
    assert [page.count(text) for text in ("data:image/jpeg", ">no file<", ">not a JPEG<")] == [1, 1, 1]


def test_a_part_that_was_found_is_framed(query: Query, folder: Path, answer: dict[str, Any]) -> None:
    hit = next(hit for hit in answer["hits"] if hit["format"] == "JPEG")
    jpeg = BytesIO()
    Image.new("RGB", (320, round(320 * hit["height"] / hit["width"])), "green").save(jpeg, "JPEG")
    part = [0, 0, hit["width"] // 2, hit["height"]]
    found = response(body=json.dumps({**answer, "hits": [{**hit, "box": part, "view": 1}]}).encode())
    with impostor(found, response(body=jpeg.getvalue())) as other:
        assert query("a cat", "--html", "there.html", "--server", other.url).code == 0
    data = re.findall(rb"data:image/jpeg;base64,([^\"]+)", (folder / "there.html").read_bytes())
    with Image.open(BytesIO(b64decode(data[0]))) as framed:
        middle = framed.height // 2
        assert min(framed.getpixel((157, middle))) > 200 > 30 > framed.getpixel((250, middle))[0]


def test_only_what_will_pass_is_worth_asking_again() -> None:
    for error, again in (
        (UnavailableError("busy"), "1"),
        (EncoderError("broken"), None),
        (NoLibraryError("gone"), None),
    ):
        response = problems.of_error(error)
        assert (response.status_code, response.headers.get("Retry-After")) == (503, again)
