"""Makes the small library that a release leaves to the tests, and records what that release answers about it.

Run by hand, in `tests/`, with the release to be kept installed, before its successor changes anything on disk:

    sed 's/ avx[0-9_]*vnni//g' /proc/cpuinfo > /tmp/cpuinfo
    unshare -m sh -c 'mount --bind /tmp/cpuinfo /proc/cpuinfo && python -m released.make'

It writes the folder `released/VERSION`: pictures, the library `index/` with vectors in full precision and in 8 bits,
the query cache, label sets and classifiers, the converted towers in `cache.tar.xz`, and `expected.json`. An existing
folder is never written to again: it stays as the release made it.

The second line hides some instructions of the processor. So the 8 bits are those for processors without VNNI, which all
others compute alike, and one tower serves every machine. The checkpoint stays behind: what is converted must suffice.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from conftest import Cli, Ran

TESTS = Path(__file__).parents[1]
PICTURES = TESTS / "recorded" / "pictures"
CHECKPOINT = TESTS / "tinyclip" / "tiny_clip.pt"
LATE = "yellow"
"""The photos that are indexed last, beside the snapshot."""

COLOURS = ["blue", "green", "red", "yellow"]
TEMPLATES = ("--template", "a circle on a {} background", "--template", "a star on a {} background")
TEXTS = ("a red background", "a small yellow circle", "a blue star on a green background")

Ask = Callable[..., Ran]
"""Runs a command with the arguments given; RuntimeError where it fails."""
Answers = dict[str, Any]


def main() -> None:
    version = metadata.version("clipsearch")
    target = Path(__file__).parent / version
    if target.exists():
        raise SystemExit(f"{target} is there already")
    work = Path(tempfile.gettempdir()) / f"clipsearch-{version}"
    shutil.rmtree(work, ignore_errors=True)
    (work / "home").mkdir(parents=True)
    _fill(work)
    shutil.copytree(work / "photos", target / "photos")
    shutil.copytree(work / "index", target / "index", ignore=_without_log)
    shutil.copy(work / "foreign.png", target)
    with tarfile.open(target / "cache.tar.xz", "w:xz", preset=9) as archive:
        archive.add(work / "cache" / "towers", "towers", filter=_anonymous)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "moved"
        ask, moved = unpacked(target, copy, photos=work / "photos")
        expected = {"version": version, "work": os.fspath(work), "moved": moved, **answers(ask, copy)}
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.rmtree(work)


def _fill(work: Path) -> None:
    """A library with all that one can hold, in the folder `work`."""
    shutil.copytree(PICTURES, work, dirs_exist_ok=True)
    shutil.copy(CHECKPOINT, work)
    cli = Cli(work / "cache", work / "home")

    def run(*arguments: str) -> None:
        ran = cli(*arguments, cwd=work)
        if ran.code:
            raise SystemExit(f"{arguments}: {ran.err}")

    (work / "photos" / LATE).rename(work / LATE)
    run("index", "photos", "--model", os.fspath(work / CHECKPOINT.name), "--tiles", "auto", "--batch-size", "16")
    run("index", "--precision", "int8")
    run("index", "--precision", "fp32")
    (work / LATE).rename(work / "photos" / LATE)
    run("index")
    run("labels", "save", "colours", *COLOURS)
    run("labels", "save", "warmth", "warm: red, orange", "cold: =blue")
    run("classify", "--examples", "taught", "--save", "taught")
    run("classify", "--labels", *COLOURS, *TEMPLATES, "--save", "words")
    for text in TEXTS:
        run("query", text)
    run("query", TEXTS[0], "--relevant")
    run("query", TEXTS[0], "--with", TEXTS[1])
    run("classify", "--labels", "@colours", "--unknown")


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _without_log(folder: str, names: list[str]) -> list[str]:
    """SQLite's files beside the catalog, which hold nothing once it is closed."""
    log = Path(folder) / "catalog.db-wal"
    if log.exists() and log.stat().st_size:
        raise SystemExit(f"{log} is not empty")
    return [name for name in names if name.startswith("catalog.db-")]


def unpacked(release: Path, folder: Path, *, photos: Path) -> tuple[Ask, int]:
    """Copy a release's library to the new `folder`, and tell it that its pictures have moved there from `photos`.

    Gives what runs a command there, and how many files it says have moved.
    """
    shutil.copytree(release, folder, copy_function=shutil.copyfile)
    shutil.unpack_archive(release / "cache.tar.xz", folder / "cache", filter="data")
    (folder / "home").mkdir()
    cli = Cli(folder / "cache", folder / "home")
    cli.env["CUDA_VISIBLE_DEVICES"] = ""  # A GPU's half precision is not what is recorded.

    def ask(*arguments: str) -> Ran:
        ran = cli(*arguments, cwd=folder)
        if ran.code:
            raise RuntimeError(f"{arguments}: {ran.err}")
        return ran

    return ask, int(ask("reroot", os.fspath(photos), "photos").text.split()[0])


def answers(ask: Ask, folder: Path) -> Answers:
    """What the library in `folder` answers: ids, names of files below `folder`, scores, labels, fingerprints."""
    about = library(ask, folder)
    eight_bit = about["encoders"]["kept"]["spec"]
    return {
        "library": about,
        "queries": {
            **{text: hits(ask("query", text, "--json", "-k", "6"), folder) for text in TEXTS},
            **{f"{text}, anew": hits(ask("query", text, "--no-cache", "--json", "-k", "6"), folder) for text in TEXTS},
            "relevant": hits(ask("query", TEXTS[0], "--relevant", "--json"), folder),
            "with": hits(ask("query", TEXTS[0], "--with", TEXTS[1], "--json", "-k", "6"), folder),
            "picture": hits(ask("query", "photos/red/1.png", "--json", "-k", "6"), folder),
            "foreign picture": hits(ask("query", "foreign.png", "--json", "-k", "6"), folder),
            "tile": hits(ask("query", "photos/trip/panorama.png#384,0,128,128", "--json", "-k", "6"), folder),
        },
        "8 bits": {
            TEXTS[0]: hits(ask("query", TEXTS[0], "--model", eight_bit, "--json", "-k", "99"), folder),
            "foreign picture": hits(ask("query", "foreign.png", "--model", eight_bit, "--json", "-k", "99"), folder),
        },
        "labels": {
            "@colours": labels(ask("classify", "--labels", "@colours", "--json"), folder),
            "@warmth": labels(ask("classify", "foreign.png", "--labels", "@warmth", "--json"), folder),
            "taught": labels(ask("classify", "--use", "taught", "--unknown", "--json"), folder),
            "words": labels(ask("classify", "--use", "words", "--json"), folder),
            "words, foreign picture": labels(ask("classify", "foreign.png", "--use", "words", "--json"), folder),
        },
        "classifiers": ask("classifiers", "--json").json["classifiers"],
        "sets": ask("labels", "--json").json["sets"],
    }


def library(ask: Ask, folder: Path) -> Answers:
    """What the library is made of."""
    info = ask("info", "--json").json
    encoders = {
        each["role"]: {key: each["info"][key] for key in ("spec", "fingerprint", "dim", "logit_scale", "template")}
        | {key: each[key] for key in ("vectors", "owed", "engine", "tail")}
        for each in info["encoders"]
    }
    return {
        "encoders": encoders,
        "contents": info["contents"],
        "files": info["files"],
        "tiles": info["tiles"],
        "roots": [_name(root["path"], folder) for root in info["roots"]],
    }


def hits(ran: Ran, folder: Path) -> list[Answers]:
    return [
        {
            "id": hit["id"],
            "name": _name(hit["path"], folder),
            "score": hit["score"],
            "relevance": hit["relevance"],
            "box": hit["box"],
            "taken_at": hit["taken_at"],
        }
        for hit in ran.json["hits"]
    ]


def labels(ran: Ran, folder: Path) -> dict[str, list[Answers]]:
    return {
        _name(each["path"], folder): [
            {"label": one["label"], "probability": one["probability"], "score": one["score"]}
            | {"unknown": each.get("unknown", False)}
            for one in each["predictions"]
        ]
        for each in ran.json["results"]
    }


def _name(path: str, folder: Path) -> str:
    return os.path.relpath(path, folder)


if __name__ == "__main__":
    main()
