"""No request names a path that the server opens, a URL that it fetches, or a program that it runs."""

from __future__ import annotations

import os
import shutil
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Cli
from test_serve_guard import JSON, TOKEN

NAME = "canary"

WATCH = f"""
import os, sys

EVENTS = "open", "os.listdir", "os.scandir", "subprocess.Popen", "os.exec", "socket.getaddrinfo", "socket.connect"

def watch(event, arguments):
    if event in EVENTS and "{NAME}" in repr(arguments):
        os.write(log, f"{{event}}{{arguments!r}}\\n".encode())

log = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
sys.addaudithook(watch)
"""
"""Runs when Python starts, in the server and in its decoder processes."""

STRACE = ("strace", "-D", "-f", "-qq", "-e", "trace=%file", "-o") if shutil.which("strace") else ()
"""The second witness, for what only looks at a name: such calls have no audit event, but may mount a network drive."""


def traced(log: Path) -> tuple[str, ...]:
    return (*STRACE, str(log)) if STRACE else ()


@dataclass
class Watched:
    client: httpx.Client
    logs: tuple[Path, Path]
    folder: Path

    def texts(self) -> Iterator[str]:
        """Names of files that exist, and of what programs might fetch or run."""
        yield from (str(self.folder / NAME / name) for name in ("photo.png", "labels.txt", "model.pt"))
        yield from (f"~/{NAME}/photo.png", f"file://{self.folder}/{NAME}/photo.png", f"{NAME}/photo.png^0.5")
        yield from (f"@{NAME}/labels.txt", f"$(cat {NAME}/labels.txt)")
        yield from (f"http://{NAME}.invalid/a.png", f"hf-hub:{NAME}/model")
        yield from (NAME, f"{NAME}/", f"~{NAME}", f"./{NAME}/model.pt", f"{NAME}+int8", f"../{NAME}/photo.png")
        yield from (f"{self.folder}/{NAME}/*", f"{self.folder}/{NAME}/[a-z]*/x", f"{NAME}/*", f"{NAME}*", f"~/{NAME}/*")

    def ask(self, method: str, url: str, given: dict[str, Any]) -> httpx.Response:
        return self.client.request(method, url, **{"params" if method == "GET" else "json": given})

    def try_all(self, method: str, url: str, name: str, others: dict[str, Any], *, several: bool = False) -> None:
        """Give each of the texts as a parameter. If it is an error, a file that does not exist is the same one."""
        for there in self.texts():
            missing = there.replace(NAME, f"{NAME}-missing")
            if name == "in-b64":
                there, missing = (b64encode(text.encode()).decode() for text in (there, missing))
            answer = self.ask(method, url, others | {name: [there] if several else there})
            assert answer.status_code < 500, (name, there, answer.text)
            if answer.status_code >= 400:
                other = self.ask(method, url, others | {name: [missing] if several else missing})
                assert other.text.replace(f"{NAME}-missing", NAME) == answer.text

    def opened(self) -> str:
        lines = [line for log in self.logs if log.exists() for line in log.read_text().splitlines()]
        return "\n".join(line for line in lines if NAME in line)


@pytest.fixture(scope="module")
def watched(cli: Cli, indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A server in whose folder and home there are files to open; what it opens of them is logged."""
    base = tmp_path_factory.mktemp("watched")
    shutil.copytree(indexed / "index", base / "index")
    home = Path(cli.env["HOME"])
    for folder in (base / NAME, home / NAME):
        folder.mkdir()
        shutil.copy(indexed / "photos" / "coffee.png", folder / "photo.png")
        (folder / "labels.txt").write_text("cat\ndog\n")
        (folder / "templates.txt").write_text("a photo of a {}\n")
        (folder / "model.pt").write_bytes(b"PK\x03\x04")
    (base / "site").mkdir()
    (base / "site" / "sitecustomize.py").write_text(WATCH)
    env = {"PYTHONPATH": os.pathsep.join([str(base / "site"), os.environ.get("PYTHONPATH", "")])}
    env |= {"WATCHED": str(base / "log"), "CLIPSEARCH_TOKEN": TOKEN}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setitem(cli.env, name, value)
        prefix = traced(base / "calls")
        process = cli.start("serve", "--port", "0", cwd=base, unbuffered="1", prefix=prefix)
    with process, httpx.Client(trust_env=False, timeout=60) as client:
        assert process.stdout is not None
        client.base_url = process.stdout.readline().decode().strip()
        yield Watched(client, (base / "log", base / "calls"), base)
        process.terminate()
        process.communicate(timeout=60)
    shutil.rmtree(home / NAME)


def test_the_log_shows_what_is_opened(watched: Watched, cli: Cli) -> None:
    env = {"PYTHONPATH": str(watched.folder / "site") + os.pathsep + os.environ.get("PYTHONPATH", "")}
    env["WATCHED"] = str(watched.folder / "log of a query")
    ran = cli("query", f"{NAME}/photo.png", cwd=watched.folder, env=env)
    assert ran.code == 0 and f"{NAME}/photo.png" in (watched.folder / "log of a query").read_text()
    calls = watched.folder / "calls of a query"
    assert cli("query", "cat", "--in", f"{NAME}/*", cwd=watched.folder, prefix=traced(calls)).code == 0
    assert not STRACE or f"{watched.folder}/{NAME}/*" in calls.read_text()


def parameters(schema: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The parameters of a schema that take texts, and whether they take several."""
    for name, about in schema["properties"].items():
        kinds = [about, *about.get("anyOf", [])]
        if any(kind.get("type") == "string" and "enum" not in kind for kind in kinds):
            yield name, False
        elif any(kind.get("type") == "array" and kind["items"].get("type") == "string" for kind in kinds):
            yield name, True


def test_no_parameter_of_an_address_names_a_file(watched: Watched) -> None:
    described = watched.client.get("/api/v1/openapi.json").json()
    tried = 0
    for path, methods in described["paths"].items():
        for about in methods.get("get", {}).get("parameters", []):
            if about["in"] == "path":
                continue
            tried += 1
            watched.try_all("GET", path.replace("{number}", "1"), about["name"], {"q": "cat"})
    assert tried > 20 and watched.opened() == ""


def test_no_parameter_of_a_body_names_a_file(watched: Watched) -> None:
    described = watched.client.get("/api/v1/openapi.json").json()
    needed = {"search": {"q": "cat"}, "classify": {"labels": ["cat"], "id": [1]}, "embed": {"texts": ["cat"]}}
    for name, others in needed.items():
        body = described["paths"][f"/api/v1/{name}"]["post"]["requestBody"]["content"]["application/json"]
        found = list(parameters(body["schema"]))
        assert len(found) >= 2, name
        for parameter, several in found:
            watched.try_all("POST", f"/api/v1/{name}", parameter, others, several=several)
    assert watched.opened() == ""


def test_the_name_of_an_upload_is_only_a_name(watched: Watched, indexed: Path) -> None:
    for name in (str(watched.folder / NAME / "photo.png"), f"../{NAME}/photo.png", f"{NAME}/labels.txt"):
        for content, status in (((indexed / "photos" / "chelsea.png").read_bytes(), 200), (b"no image", 422)):
            sent = {"image": (name, content), "query": (None, '{"q": "image:0", "k": 1}', "application/json")}
            answer = watched.client.post("/api/v1/search", files=sent, headers={"X-Clipsearch": "1"})
            assert answer.status_code in (status, 415), answer.text
            if status == 200:
                assert answer.json()["hits"][0]["path"].endswith("chelsea.png")
    assert watched.opened() == ""


def test_an_index_run_takes_no_folders(watched: Watched) -> None:
    everything = {"q": "cat", "k": 1000}
    before = watched.client.get("/api/v1/search", params=everything).json()["hits"]
    for body in ({"paths": [NAME]}, {"roots": [str(watched.folder / NAME)]}, [NAME]):
        assert watched.client.post("/api/v1/index", json=body, headers=JSON).status_code == 400
    assert watched.client.post("/api/v1/index", json={}, headers=JSON).status_code == 202
    events = watched.client.get("/api/v1/index/events").text
    assert "event: finished" in events
    assert watched.client.get("/api/v1/search", params=everything).json()["hits"] == before
    assert watched.opened() == ""
