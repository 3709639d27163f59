"""The API of a real server: the answers of the command line, limits, files, index runs, and how it stops."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import Cli
from helpers import draw
from servers import Server, served

from clipsearch.library.library import Library
from clipsearch.serve import schema
from clipsearch.serve.executors import BoundedExecutor
from clipsearch.serve.problems import UnavailableError


@pytest.fixture(scope="module")
def folder(indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with the same files as `indexed`, for one server."""
    copy = tmp_path_factory.mktemp("served")
    shutil.copytree(indexed / "index", copy / "index")
    return copy


@pytest.fixture(scope="module")
def server(cli: Cli, folder: Path) -> Iterator[Server]:
    with served(cli, folder) as running:
        yield running


def problem(response: httpx.Response, status: int) -> str:
    """The detail of a problem, after a look at its form."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    value = response.json()
    assert (value["type"], value["status"]) == ("about:blank", status)
    return str(value["detail"])


def id_of(server: Server, name: str) -> int:
    hits = server.get("search", q="a photo", k=100).json()["hits"]
    return next(int(hit["id"]) for hit in hits if Path(hit["path"]).name == name)


# The same answers as on the command line


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        (["a cat"], {"q": "a cat"}),
        (["a", "cat"], {"q": "a cat"}),
        (["a cat", "-k", "2", "--page", "2"], {"q": "a cat", "k": 2, "page": 2}),
        (["id:2"], {"q": "id:2"}),
        (["a cat^2", "--with", "space^0.5"], {"q": "a cat^2", "with": "space^0.5"}),
        (["a cat", "--with", "a dog", "--with", "id:1"], {"q": "a cat", "with": ["a dog", "id:1"]}),
        (["a cat", "--without", "fur"], {"q": "a cat", "without": "fur"}),
        (["a cat", "--with", "fur", "--all"], {"q": "a cat", "with": "fur", "all": "true"}),
        (["a cat", "--like", "id:3"], {"q": "a cat", "like": "id:3"}),
        (["id:2", "--text"], {"q": "id:2", "text": "true"}),
        (["a cat", "--format", "jpg", "--min-size", "10x10"], {"q": "a cat", "format": "jpg", "min-size": "10x10"}),
        (["a cat", "--taken", "2021"], {"q": "a cat", "taken": "2021"}),
        (["a cat", "--name", "c", "--landscape"], {"q": "a cat", "name": "c", "landscape": "true"}),
        (["a cat", "--relevant"], {"q": "a cat", "relevant": "1"}),
        (["a cat", "--sort", "path", "--unfold"], {"q": "a cat", "sort": "path", "unfold": "true"}),
        (["a cat", "--in", "*coffee*"], {"q": "a cat", "in": "*coffee*"}),
        (["Straße 東京 \u202e"], {"q": "Straße 東京 \u202e"}),
    ],
    ids=str,
)
def test_a_search_is_answered_as_by_the_command_line(
    cli: Cli, server: Server, folder: Path, arguments: list[str], params: dict[str, Any]
) -> None:
    ran = cli("query", *arguments, "--json", cwd=folder)
    answer = server.get("search", **params)
    assert (answer.status_code, ran.code) == (200, 0), ran.err
    assert answer.content == ran.out
    body = {
        name: [value] if name in ("with", "without", "like", "format", "in") and isinstance(value, str) else value
        for name, value in params.items()
    }
    assert server.post("search", body).content == ran.out


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        (["a cat", "--taken", "May"], {"q": "a cat", "taken": "May"}),
        (["a cat", "--format", "docx"], {"q": "a cat", "format": "docx"}),
        (["a cat", "--min-size", "big"], {"q": "a cat", "min-size": "big"}),
        (["a cat", "--landscape", "--portrait"], {"q": "a cat", "landscape": "1", "portrait": "1"}),
        (["id:77"], {"q": "id:77"}),
        (["a cat", "--with", "x^0"], {"q": "a cat", "with": "x^0"}),
        (["a cat", "--relevant", "--without", "x"], {"q": "a cat", "relevant": "1", "without": "x"}),
        (["a cat", "--model", "ViT-B-32"], {"q": "a cat", "model": "ViT-B-32"}),
    ],
    ids=str,
)
def test_an_error_is_that_of_the_command_line(
    cli: Cli, server: Server, folder: Path, arguments: list[str], params: dict[str, Any]
) -> None:
    ran = cli("query", *arguments, cwd=folder)
    answer = server.get("search", **params)
    assert 400 <= answer.status_code < 500
    detail = problem(answer, answer.status_code)
    assert answer.json()["exit_code"] == ran.code
    assert ran.err.startswith(f"error: {detail.split(';')[0].split('(')[0]}")


def test_images_that_are_sent_along_are_terms(cli: Cli, server: Server, folder: Path, indexed: Path) -> None:
    photo = indexed / "photos" / "chelsea.png"
    for term in (str(photo), f"{photo}^2", f"{photo}#10,10,200,150", f"{photo}#10%,10%,50%,50%"):
        ran = cli("query", term, "--without", "a cup", "--json", cwd=folder)
        query = {"q": term.replace(str(photo), "image:0"), "without": ["a cup"]}
        answer = server.send(
            "search", [("query", (None, json.dumps(query))), ("image", (str(photo), photo.read_bytes()))]
        )
        assert answer.content == ran.out, term


def test_a_batch_is_answered_line_by_line(cli: Cli, server: Server, folder: Path) -> None:
    texts = ["a cat", "a cup of coffee", "space"]
    ran = cli("query", "--file", "-", "-k", "2", "--format", "png", cwd=folder, input="\n".join(texts).encode())
    answer = server.post("search", {"queries": texts, "k": 2, "format": ["png"]})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.content == ran.out
    assert "`queries`" in problem(server.post("search", {"queries": texts, "sort": "path"}), 400)


def test_an_image_and_its_neighbours(cli: Cli, server: Server, folder: Path) -> None:
    assert server.get("images/1").content == cli("show", "1", "--json", cwd=folder).out
    assert server.get("images/1", k=1).content == cli("show", "1", "-k", "1", "--json", cwd=folder).out
    for path in ("images/77", "images/77/file"):
        assert "id:77" in problem(server.get(path), 404)
    assert problem(server.get("images/0"), 422)
    assert problem(server.get(f"images/{10**30}"), 422)


def test_images_are_classified_as_by_the_command_line(cli: Cli, server: Server, folder: Path, indexed: Path) -> None:
    photo = indexed / "photos" / "chelsea.png"
    labels = ["cat: kitten, tabby", "dog", "cup,rocket"]
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # As in the server: it decides the last digits.
    ran = cli("classify", "--labels", *labels, "--unknown", "--json", cwd=folder, env=one_thread)
    asked = {"labels": labels, "unknown": True}
    answer = server.post("classify", asked | {"id": [item["id"] for item in ran.json["results"]]})
    assert answer.content == ran.out
    sent = server.send("classify", [("query", json.dumps(asked)), ("image", ("mine.png", photo.read_bytes()))])  # type: ignore[list-item]
    known = next(item for item in ran.json["results"] if item["path"] == str(photo))
    assert sent.json()["results"][0]["predictions"] == known["predictions"]
    assert sent.json()["results"][0]["path"] == "mine.png"
    damaged = server.send("classify", [("query", json.dumps(asked)), ("image", ("bad.png", b"none"))])  # type: ignore[list-item]
    assert damaged.status_code == 200 and damaged.json()["results"][0]["reason"]


def test_answers_have_the_keys_that_are_described(server: Server) -> None:
    """Later versions may add some; this one has none beyond its description."""
    schema.Found.model_validate(server.get("search", q="a cat").json(), extra="forbid")
    schema.Image.model_validate(server.get("images/1").json(), extra="forbid")
    asked = {"labels": ["cat", "dog"], "id": [1, 2], "unknown": True}
    schema.Classification.model_validate(server.post("classify", asked).json(), extra="forbid")
    schema.Embedded.model_validate(server.post("embed", {"texts": ["a"]}).json(), extra="forbid")
    schema.Status.model_validate(server.get("status").json(), extra="forbid")


def test_embeddings_are_those_of_the_library(server: Server, folder: Path, indexed: Path) -> None:
    photo = indexed / "photos" / "coffee.png"
    with Library.open(folder / "index") as library:
        found = library.embed(["a cat", "a cup"])
        image = library.embed([photo])
    answer = server.post("embed", {"texts": ["a cat", "a cup"]}).json()
    assert (answer["model"], answer["fingerprint"]) == (found.model.spec, found.model.fingerprint)
    assert np.array_equal(np.float32(answer["vectors"]), found.vectors)
    sent = server.send("embed", [("image", ("x", photo.read_bytes()))]).json()
    assert np.array_equal(np.float32(sent["vectors"]), image.vectors)
    assert problem(server.post("embed", {}), 400)
    assert "x" in problem(server.send("embed", [("image", ("x", b"no image"))]), 422)


# Limits


def test_parameters_have_limits(server: Server) -> None:
    for path, asked in (
        ("search", {"q": "a", "k": 1001}),
        ("search", {"q": "a", "page": 0}),
        ("search", {"q": "a" * 2001}),
        ("search", {"queries": ["a"] * 65}),
        ("search", {"q": "a", "with": "b"}),
        ("classify", {"labels": [], "id": [1]}),
        ("classify", {"labels": ["a"] * 65, "id": [1]}),
        ("classify", {"labels": ["a", "b"], "id": [1], "margin": "inf"}),
        ("embed", {"texts": ["a"] * 65}),
    ):
        assert problem(server.post(path, asked), 422), asked
    for path, asked in (
        ("search", {"q": "a", "wihtout": ["b"]}),
        ("search", ["q"]),
        ("search", {"q": "a", "with": ["b"] * 32, "without": ["c"] * 32}),
        ("search", {"queries": ["a"] * 11, "k": 1000}),
        ("classify", {"labels": [",".join(map(str, range(500)))] * 11, "id": [1]}),
        ("classify", {"labels": ["a", "b: " + ", ".join(map(str, range(64)))], "template": ["openai"], "id": [1]}),
        ("index", {"paths": ["/etc"]}),
    ):
        assert problem(server.post(path, asked), 400), asked
    assert "wihtout" in problem(server.get("search", q="a", wihtout="b"), 400)
    as_json = {"Content-Type": "application/json"}
    assert problem(server.client.post("/api/v1/search", content=b"{", headers=as_json), 400)
    assert problem(server.client.post("/api/v1/search", content=b" " * 2**20 + b"{}", headers=as_json), 413)
    assert problem(server.get("search"), 400)
    assert problem(server.get("nothing"), 404)
    assert problem(server.client.delete("/api/v1/search"), 415)


def test_forms_have_at_most_eight_parts_of_two_names(server: Server) -> None:
    image = ("image", ("x", b"x"))
    assert "8" in problem(server.send("embed", [image] * 9), 400)
    assert "'file'" in problem(server.send("embed", [("file", ("x", b"x"))]), 400)
    assert problem(server.send("embed", [image, ("query", (None, "{"))]), 400)
    parts = [("query", (None, json.dumps({"q": "image:0", "with": ["image:0#1,1,9,9"] * 8}))), image]
    assert "8 of them uploaded images" in problem(server.send("search", parts), 400)
    assert "`image`" in problem(server.send("search", [("query", (None, '{"queries": ["a"]}')), image]), 400)
    query = ("query", (None, '{"q": "image:1"}'))
    assert "image:1: there is no such image" in problem(server.send("search", [query, image]), 400)
    assert server.get("search", q="image:0").json()["query"] == "image:0"  # As on the command line, these are words.
    assert "not used" in problem(server.send("search", [("query", (None, '{"q": "a cat"}')), image]), 400)
    assert "one is named query" in problem(server.send("search", [query, query, image]), 400)


def test_no_parameter_names_a_file(server: Server, indexed: Path) -> None:
    photo = str(indexed / "photos" / "chelsea.png")
    as_text = server.get("search", q=photo).json()
    assert as_text["query"] == photo
    assert as_text["hits"][0]["score"] < 0.9
    assert "no such image" in problem(server.get("search", q="a", like=photo), 400)
    tiny = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
    assert "no embeddings" in problem(server.get("search", q="a", model=str(tiny)), 409)
    assert server.post("classify", {"labels": [f"@{photo}", "b"], "id": [1]}).json()["results"]


def test_a_full_executor_refuses_and_a_lost_client_keeps_its_slot_until_its_work_ends(folder: Path) -> None:
    async def fill() -> None:
        executor = BoundedExecutor("test", lambda: Library.open(folder / "index"), threads=1, waiting=1)
        go_on = threading.Event()
        first, second = (asyncio.create_task(executor.run(lambda _: go_on.wait(30))) for _ in range(2))
        await asyncio.sleep(0.1)
        with pytest.raises(UnavailableError):
            await executor.run(lambda _: True)
        first.cancel()
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await executor.run(lambda _: True)
        go_on.set()
        assert await second
        assert await executor.run(lambda library: library.info().contents["ok"]) == 4
        await asyncio.to_thread(executor.close)

    asyncio.run(fill())


# Files


def test_a_file_is_sent_as_it_is(server: Server, indexed: Path) -> None:
    number, data = id_of(server, "chelsea.png"), (indexed / "photos" / "chelsea.png").read_bytes()
    whole = server.get(f"images/{number}/file")
    assert (whole.content, whole.headers["content-type"]) == (data, "image/png")
    part = server.client.get(f"/api/v1/images/{number}/file", headers={"Range": "bytes=5-14"})
    assert (part.status_code, part.content) == (206, data[5:15])
    again = server.client.get(f"/api/v1/images/{number}/file", headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    saved = server.get(f"images/{number}/file", download="true")
    assert saved.headers["content-disposition"].startswith("attachment")


def test_another_file_in_its_place_is_not_sent(cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "a.png", 1), draw(photos / 'b\xff\n".png', 2), draw(photos / "c.png", 3)
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path).code == 0
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * (photos / "a.png").stat().st_size)
    with served(cli, tmp_path) as server:
        a, b, c = (id_of(server, name) for name in ("a.png", 'b\xff\n".png', "c.png"))
        assert "filename*" in server.get(f"images/{b}/file").headers["content-disposition"]
        (photos / "a.png").unlink()
        (photos / "a.png").symlink_to(secret)
        (photos / "c.png").unlink()
        assert "changed" in problem(server.get(f"images/{a}/file"), 404)
        assert problem(server.get(f"images/{c}/file"), 404)


# Index runs


def test_an_index_run_is_started_watched_and_kept(cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "0.png")
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path).code == 0
    with served(cli, tmp_path) as server:
        assert problem(server.post("index/stop"), 409)
        for seed in range(1, 150):
            draw(photos / f"{seed}.png", seed)
        begun = server.post("index")
        assert (begun.status_code, begun.json()["state"]) == (202, "running")
        assert "progress" in problem(server.post("index"), 409)
        states = events(server)
        assert states[-1]["state"] == "finished" and len(states) > 1
        assert states[-1]["report"]["indexed"] == 149
        assert any(state["progress"] and state["progress"]["stage"] == "encoding" for state in states)
        assert len(server.get("search", q="a photo", k=200).json()["hits"]) == 150
        assert server.get("status").json()["run"] == states[-1]


def test_a_run_that_cannot_begin_says_why_and_one_can_be_stopped(cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for seed in range(300):
        draw(photos / f"{seed}.png", seed)
    assert cli("index", photos / "0.png", "--model", "builtin", cwd=tmp_path).code == 0
    other = cli.start("index", "photos", cwd=tmp_path)
    with served(cli, tmp_path) as server:
        wait_for(lambda: (tmp_path / "index" / "lock").read_bytes() or other.poll() is not None)
        assert other.poll() is None, "the other run was too fast"
        assert "is writing to the library" in problem(server.post("index"), 409)
        other.kill()
        other.communicate()
        assert server.post("index").status_code == 202
        assert server.post("index/stop").status_code == 202
        assert events(server)[-1]["state"] == "stopped"


@pytest.mark.parametrize("arguments", [("--read-only",), ("--host", "0.0.0.0"), ("--behind-proxy",)], ids=str)
def test_runs_are_disabled_where_they_should_be(cli: Cli, copied: Path, arguments: tuple[str, ...]) -> None:
    with served(cli, copied, *arguments) as server:
        server.client.headers["Authorization"] = f"Bearer {httpx.URL(server.address).params.get('token')}"
        assert problem(server.client.post("/api/v1/index", json={}, headers={"Host": "localhost"}), 403)
        assert problem(server.client.post("/api/v1/index/stop", json={}, headers={"Host": "localhost"}), 403)


def events(server: Server) -> list[Any]:
    with server.client.stream("GET", "/api/v1/index/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: ")]


def wait_for(condition: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# The process


def test_it_stops_in_order_with_an_open_stream_and_a_run_in_progress(cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "0.png")
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path).code == 0
    for seed in range(1, 400):
        draw(photos / f"{seed}.png", seed, side=400)
    with served(cli, tmp_path) as server:
        assert server.post("index").status_code == 202
        seen = threading.Thread(target=lambda: events(server))
        seen.start()
        wait_for(lambda: (server.get("status").json()["run"]["progress"] or {}).get("done"))
        assert server.stop() == 0
        seen.join(10)
        assert not seen.is_alive()
    assert (tmp_path / "serve.err").read_text().count("\n") == 1, (tmp_path / "serve.err").read_text()
    assert cli("index", "--json", cwd=tmp_path).json["unchanged"] > 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--index", "none"), "no library"),
        (("--host", "256.1.1.1"), "cannot listen on 256.1.1.1:0"),
        (("--root-path", "photos"), "--root-path photos"),
        (("--allow-host", "http://x"), "--allow-host http://x"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_in_one_line(cli: Cli, folder: Path, arguments: tuple[str, ...], told: str) -> None:
    ran = cli("serve", "--port", "0", *arguments, cwd=folder)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert told in ran.err


def test_silent_connections_leave_room_for_others(server: Server) -> None:
    silent = [socket.create_connection((server.url.host, server.url.port or 0)) for _ in range(600)]
    try:
        assert sum(is_closed(each) for each in silent) >= 90
        assert problem(server.get("search"), 400)
    finally:
        for each in silent:
            each.close()


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.02)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_an_upload_in_progress_ends_with_the_server(cli: Cli, copied: Path) -> None:
    with served(cli, copied) as server:
        address = (server.url.host, server.url.port or 0)
        with socket.create_connection(address, timeout=10) as slow:
            slow.sendall(b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\n")
            slow.sendall(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
            time.sleep(0.5)
            assert server.stop() == 0
            assert b" 503 Service Unavailable\r\n" in slow.recv(10_000)
    assert "Traceback" not in (copied / "serve.err").read_text()


def test_an_interrupt_that_is_repeated_ends_it_at_once(cli: Cli, copied: Path) -> None:
    with served(cli, copied) as server:
        for _ in range(2):
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert server.process.wait(5) == 0
    assert "Traceback" not in (copied / "serve.err").read_text()


def test_a_port_in_use_is_named(cli: Cli, folder: Path, server: Server) -> None:
    ran = cli("serve", "--port", str(server.url.port), cwd=folder)
    assert ran.code == 2
    assert f":{server.url.port}: address already in use; choose another --host or --port" in ran.err


def test_schemathesis_finds_no_server_error_and_no_answer_outside_the_schema(server: Server) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}api/v1/openapi.json"]
    limits = ["--max-examples", "20", "--seed", "1", "--header", "X-Clipsearch: 1", "--no-color"]
    ran = subprocess.run([*command, *limits, "--checks", checks], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " 0 passed" not in ran.stdout and "generated" in ran.stdout, ran.stdout[-3000:]
