"""A server that is killed and started again under load, while its library is changed by other processes.

Scores are known in advance for every image and query by each of the two encoders. So each answer can be checked, in
whatever moment of an index run it was given: its scores are right, they are in order, and no image that is in the
library all the time is missing from it.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from conftest import Cli
from helpers import draw
from servers import Server, served

TINY = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
QUERIES = ("a red circle", "a photo of the sea", "something blue")
STAY, LEAVE, COME = range(60), range(60, 90), range(90, 360)
"""Seeds of images that are in the library all the time, that are deleted, and that are added."""
K = 40
CLIENTS = 6
CHANGES = 5
LATER_S = 0.7
"""Seconds from the start of a change until the server is killed."""


@dataclass
class Load:
    """Clients that search all the time, and what they saw."""

    port: int
    seen: list[tuple[float, float, str, dict[str, Any]]] = field(default_factory=list)
    failed: list[tuple[float, float, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False) as client:
            while not self.ended.is_set():
                number += 1
                query, begun = QUERIES[number % len(QUERIES)], time.monotonic()
                try:
                    answer = client.get("/api/v1/search", params={"q": query, "k": K})
                    answer.raise_for_status()
                    self.seen.append((begun, time.monotonic(), query, answer.json()))
                except httpx.ConnectError:  # Nothing was sent: there is no server just now.
                    time.sleep(0.02)
                except (httpx.HTTPError, ValueError) as exc:
                    self.failed.append((begun, time.monotonic(), repr(exc)))


def scores(cli: Cli, folder: Path, model: str) -> dict[str, dict[str, float]]:
    """Query → name → score, of all images in the library that have a vector by `model`."""
    found = {}
    for query in QUERIES:
        ran = cli("query", query, "-k", "1000", "--model", model, "--json", cwd=folder)
        assert ran.code == 0, ran.err
        found[query] = {Path(hit["path"]).name: hit["score"] for hit in ran.json["hits"]}
    return found


def in_order(cli: Cli, folder: Path, server: Server) -> None:
    """Nothing changes now: the server answers as the command line does, to the byte."""
    for query in QUERIES:
        ran = cli("query", query, "-k", str(K), "--json", cwd=folder)
        assert server.get("search", q=query, k=K).content == ran.out


def test_no_answer_is_wrong_and_only_requests_at_a_kill_fail(cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for seed in (*STAY, *LEAVE):
        draw(photos / f"{seed}.png", seed)

    begun = threading.Semaphore(0)

    def index(*arguments: str | Path) -> None:
        begun.release()
        ran = cli("index", *arguments, cwd=tmp_path)
        assert ran.code == 0, ran.err

    index("photos", "--model", TINY)
    begun.acquire()
    known = {str(TINY): scores(cli, tmp_path, str(TINY))}
    kills: list[tuple[float, float]] = []
    load = None
    clients: list[threading.Thread] = []
    port = "0"

    def change() -> None:
        """Add files, so that a snapshot is published, delete some, switch encoders, prune, and switch back."""
        for seed in COME:
            draw(photos / f"{seed}.png", seed)
        index()
        for seed in LEAVE:
            (photos / f"{seed}.png").unlink()
        index()
        index("--model", "builtin")
        begun.release()
        ran = cli("prune", cwd=tmp_path)
        assert ran.code == 0, ran.err
        index("--model", TINY)

    changes = threading.Thread(target=change)
    for number in range(CHANGES + 1):
        with served(cli, tmp_path, "--port", port) as server:
            if load is None:
                port, load = str(server.url.port), Load(int(server.url.port or 0))
                in_order(cli, tmp_path, server)
                clients += [threading.Thread(target=load.run, args=(at,)) for at in range(CLIENTS)]
                for each in (*clients, changes):
                    each.start()
            else:
                kills[-1] = (kills[-1][0], time.monotonic())
            if number < CHANGES:
                assert begun.acquire(timeout=120)
                time.sleep(LATER_S)
                kills.append((time.monotonic(), 0.0))
                continue
            changes.join(120)
            load.ended.set()
            for each in clients:
                each.join(60)
            in_order(cli, tmp_path, server)
            assert server.stop() == 0

    assert load is not None
    assert all(any(begun < up and ended > down for down, up in kills) for begun, ended, _ in load.failed), load.failed
    known |= {model: merged(known.get(model, {}), scores(cli, tmp_path, model)) for model in (str(TINY), "builtin")}
    stay = {f"{seed}.png" for seed in STAY}
    for *_, query, answer in load.seen:
        hits = [(Path(hit["path"]).name, hit["score"]) for hit in answer["hits"]]
        oracle = known[answer["model"]][query]
        assert len(hits) == K
        assert all(abs(score - oracle[name]) < 1e-5 for name, score in hits), json.dumps(answer)[:2000]
        assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
        missing = stay - {name for name, _ in hits}
        assert max(oracle[name] for name in missing) <= hits[-1][1] + 1e-6
    models = {answer["model"] for *_, answer in load.seen}
    assert models == {str(TINY), "builtin"}
    assert len(load.seen) > 100


def merged(one: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {query: one.get(query, {}) | names for query, names in other.items()}
