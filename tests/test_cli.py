"""The commands as a person runs them: what is printed where, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli

from clipsearch.cli.render.runs import IGNORED
from clipsearch.indexing.ignored import KINDS

# index


def test_a_run_without_a_network_makes_a_library_and_says_loudly_that_it_is_not_clip(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    ran = cli("index", "photos", cwd=tmp_path)
    assert ran.code == 0
    assert "WARNING" in ran.err and "NOT CLIP" in ran.err and "HF_HUB_OFFLINE is set" in ran.err
    assert "index --model default" in ran.err
    assert cli("info", "--json", cwd=tmp_path).json["fallback"].endswith("HF_HUB_OFFLINE is set")


def test_the_report_goes_to_stdout_and_the_rest_to_stderr(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    ran = cli("index", indexed / "photos", "--model", "builtin", cwd=tmp_path)
    assert ran.lines[0].startswith("indexed 4 files in ")
    assert "1  duplicates" in ran.text and "not CLIP" in ran.text
    assert "created a library in" in ran.err and "created a library" not in ran.text
    again = cli("index", cwd=tmp_path)
    assert again.code == 0 and again.err == ""
    assert again.lines[0].startswith("indexed 0 files") and "5  unchanged" in again.text


def test_json_of_a_run_counts_every_file_once(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "drawing.gif").write_text("<svg></svg>")
    for name in ("broken.jpg", "empty.png", "drawing.gif"):
        os.utime(tmp_path / name, (0, 0))  # a file of this very moment would be looked at again
    ran = cli("index", indexed / "photos", tmp_path, "--model", "builtin", "--json", cwd=tmp_path)
    assert ran.code == 3
    report = ran.json
    assert report["schema_version"] == 1 and report["model"] == "builtin"
    counts = ["indexed", "unchanged", "moved", "copied", "restored", "missing", "offline", "excluded", "unsupported"]
    assert {name: report[name] for name in counts if report[name]} == {"indexed": 4, "copied": 1, "unsupported": 1}
    failed = [("broken.jpg", "not a picture in any known format")]
    assert [(Path(f["path"]).name, f["reason"]) for f in report["failed"]] == failed
    assert [Path(f["path"]).name for f in report["placeholders"]] == ["empty.png"]
    again = cli("index", "--json", cwd=tmp_path)
    assert again.code == 0 and again.json["failed"] == []
    assert (again.json["failed_before"], again.json["unsupported"], again.json["unchanged"]) == (1, 1, 5)
    assert again.json["opened"] == 0


def test_failures_are_listed_with_their_reasons(cli: Cli, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02}.jpg").write_text(f"no picture {number}")
    ran = cli("index", ".", "--model", "builtin", cwd=tmp_path)
    assert ran.code == 3
    assert "12  failed:" in ran.text
    assert "00.jpg: not a picture in any known format" in ran.text and "and 2 more" in ran.text
    listed = cli("info", "--files", "failed", cwd=tmp_path)
    assert listed.lines == [str(tmp_path / f"{number:02}.jpg") for number in range(12)]
    reasons = cli("info", "--files", "failed", "--json", cwd=tmp_path).json
    assert reasons["files"][0] == {"path": str(tmp_path / "00.jpg"), "reason": "not a picture in any known format"}
    zero = cli("info", "--files", "failed", "-0", cwd=tmp_path)
    assert zero.out == b"".join(os.fsencode(tmp_path / f"{n:02}.jpg") + b"\0" for n in range(12))


@pytest.mark.parametrize("options", [("--model", "builtin"), ("--dry-run",)])
def test_ignored_files_are_counted_by_kind(cli: Cli, tmp_path: Path, options: tuple[str, ...]) -> None:
    for name in ("photos/a.mp4", "photos/b.MOV", "photos/c.pdf", "photos/d.txt", "photos/e.txt", "Videos/f.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "photos" / "drawing.gif").write_text("<svg></svg>")
    both = cli("index", "photos", "Videos", *options, cwd=tmp_path)
    assert both.code == 0 and "\n3 videos, 1 PDF, 2 other files ignored\nno images in Videos\n" in both.text
    one = cli("index", "Videos", *options, "--json", cwd=tmp_path).json
    assert {kind: number for kind, number in one["ignored"].items() if number} == {"video": 1}
    assert one["without_images"] == [{"path": str(tmp_path / "Videos")}]


def test_every_kind_of_ignored_files_has_a_name() -> None:
    assert tuple(IGNORED) == KINDS


def test_reasons_of_unsupported_files_are_shown_once_each_in_every_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, data in enumerate((b"<svg></svg>", b"%PDF-1.4 one", b"%PDF-1.4 two")):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(data)
        os.utime(tmp_path / "photos" / f"{number}.jpg", (0, 0))
    for options in (("--model", "builtin"), (), ("--dry-run",)):
        ran = cli("index", "photos", *options, cwd=tmp_path)
        assert ran.code == 0
        assert ran.lines[1:3] == [
            "        2  not indexed: PDF is not supported",
            "        1  not indexed: SVG is not supported",
        ]
    reasons = cli("index", "--json", cwd=tmp_path).json["unsupported_reasons"]
    assert reasons == [{"reason": "PDF is not supported", "files": 2}, {"reason": "SVG is not supported", "files": 1}]
    (tmp_path / "elsewhere").mkdir()
    assert cli("index", "elsewhere", "--json", cwd=tmp_path).json["unsupported_reasons"] == []


def test_all_files_finds_images_without_a_suffix(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, source in (("a.png", "coffee.png"), ("IMG_0001", "chelsea.png"), ("backup.dat", "rocket.jpg")):
        (tmp_path / "photos" / name).write_bytes((indexed / "photos" / source).read_bytes())
    (tmp_path / "photos" / "notes.txt").write_text("notes")
    plain = cli("index", "photos", "--model", "builtin", cwd=tmp_path)
    assert plain.lines[0].startswith("indexed 1 file ") and "3 other files ignored" in plain.lines
    ran = cli("index", "--all-files", cwd=tmp_path)
    assert ran.lines[0].startswith("indexed 2 files ") and "1 other file ignored" in ran.lines
    assert cli("query", "a cat", "-k", "1", cwd=tmp_path).lines == [str(tmp_path / "photos" / "IMG_0001")]
    assert cli("index", "--json", cwd=tmp_path).json["unchanged"] == 3
    assert cli("index", "--no-all-files", "--json", cwd=tmp_path).json["excluded"] == 2


def test_a_dry_run_reads_nothing_and_makes_nothing(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    ran = cli("index", indexed / "photos", "--dry-run", cwd=tmp_path)
    assert ran.code == 0 and ran.lines[0] == "would read 5 files"
    assert list(tmp_path.iterdir()) == []


def test_options_of_a_scan_stay_until_they_are_reset(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    for name, source in (("a.png", "coffee.png"), (".b.png", "chelsea.png"), ("c.jpg", "rocket.jpg")):
        (tmp_path / name).write_bytes((indexed / "photos" / source).read_bytes())
    (tmp_path / "link").symlink_to(indexed / "photos")

    def seen(*options: str) -> int:
        assert cli("index", *options, cwd=tmp_path).code == 0
        return int(cli("info", "--json", cwd=tmp_path).json["files"]["present"])

    assert seen(".", "--model", "builtin", "--exclude", "*.jpg") == 1
    assert seen("--hidden") == 2
    assert seen("--follow-symlinks", "--no-hidden") == 1 + 4
    assert seen("--no-exclude", "--no-follow-symlinks") == 2


@pytest.mark.parametrize("zero", [False, True])
def test_paths_from_a_list(cli: Cli, indexed: Path, tmp_path: Path, zero: bool) -> None:
    names = [os.fsencode(indexed / "photos" / name) for name in ("coffee.png", "rocket.jpg")]
    listed = (b"\0" if zero else b"\n").join(names) + (b"\0" if zero else b"")
    options = ["-0"] if zero else []
    ran = cli("index", "--files-from", "-", *options, "--model", "builtin", "--json", cwd=tmp_path, input=listed)
    assert ran.code == 0 and ran.json["indexed"] == 2
    empty = cli("index", "--files-from", "-", cwd=tmp_path)
    assert empty.code == 0 and "none of the listed files exists" in empty.err


def test_a_second_model_is_filled_beside_the_first(cli: Cli, copied: Path) -> None:
    checkpoint = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
    ran = cli("index", "--model", checkpoint, "--trust-checkpoint", "--json", cwd=copied)
    assert ran.code == 0, ran.err
    assert ran.json["switched"] and ran.json["encoded"] == 4
    models = cli("info", "--json", cwd=copied).json["encoders"]
    assert {m["info"]["spec"]: m["role"] for m in models} == {str(checkpoint): "answering", "builtin": "kept"}
    assert cli("query", "a cat", "--model", "builtin", "-k", "1", cwd=copied).lines[0].endswith("chelsea.png")
    assert cli("prune", "--encoder", "builtin", "--json", cwd=copied).json["vectors"] == 4
    gone = cli("query", "a cat", "--model", "builtin", cwd=copied)
    assert gone.code == 4 and "has no embeddings of builtin" in gone.err


# query


def test_words_need_no_quotes(cli: Cli, indexed: Path) -> None:
    first = str(indexed / "photos" / "chelsea.png")
    assert cli("query", "a", "cat", cwd=indexed).lines[0] == first
    assert cli("query", "a cat", "-k", "1", cwd=indexed).lines == [first]


def test_json_of_a_query(cli: Cli, indexed: Path) -> None:
    ran = cli("query", "a cup of coffee", "-k", "2", "--json", cwd=indexed)
    answer = ran.json
    assert (answer["schema_version"], answer["query"], answer["model"]) == (1, "a cup of coffee", "builtin")
    assert answer["is_clip"] is False and answer["score_kind"] == "cosine"
    hit = answer["hits"][0]
    photos = indexed / "photos"
    assert hit["path"] == str(photos / "coffee-again.png")
    assert hit["paths"] == [str(photos / "coffee-again.png"), str(photos / "coffee.png")]
    assert (hit["format"], hit["width"], hit["height"], hit["offline"]) == ("PNG", 600, 400, False)
    assert hit["bytes"] == (photos / "coffee.png").stat().st_size
    assert 0.3 < hit["score"] <= 1 and hit["explain"][0]["label"] == "espresso"
    by_line = cli("query", "a cup of coffee", "-k", "2", "--jsonl", cwd=indexed)
    assert [json.loads(line) for line in by_line.lines] == answer["hits"]


def test_zero_bytes_between_paths(cli: Cli, indexed: Path) -> None:
    ran = cli("query", "a rocket launch", "-k", "1", "-0", cwd=indexed)
    assert ran.out == os.fsencode(indexed / "photos" / "rocket.jpg") + b"\0"


def test_a_picture_finds_its_like(cli: Cli, indexed: Path) -> None:
    ran = cli("query", "photos/rocket.jpg", "-k", "1", "--json", cwd=indexed)
    assert ran.code == 0 and "like the file photos/rocket.jpg" in ran.err
    assert ran.json["hits"][0]["path"].endswith("rocket.jpg") and ran.json["hits"][0]["score"] > 0.999
    words = cli("query", "--text", "photos/rocket.jpg", "-k", "1", "--json", cwd=indexed)
    assert words.err == "" and words.json["hits"][0]["score"] < 0.9


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gone.jpg", "no such file"),
        ("folder.jpg", "not a regular file"),
        ("notes", "not a picture"),
        ("x.png", "empty"),
    ],
)
def test_a_file_that_is_no_picture_is_a_mistake_in_the_command(
    cli: Cli, indexed: Path, tmp_path: Path, word: str, said: str
) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "notes").write_text("to do")
    (tmp_path / "x.png").touch()
    ran = cli("query", word, "--index", indexed / "index", cwd=tmp_path)
    assert ran.code == 2 and ran.out == b""
    assert word in ran.err and said in ran.err and "Traceback" not in ran.err
    assert cli("query", "--text", word, "--index", indexed / "index", cwd=tmp_path).code == 0


def test_a_folder_of_that_name_does_not_hide_the_word(cli: Cli, indexed: Path) -> None:
    assert cli("query", "photos", cwd=indexed).code == 0


def test_a_weak_match_is_said_to_be_one(cli: Cli, indexed: Path) -> None:
    assert "weak" not in cli("query", "a cat", cwd=indexed).err
    ran = cli("query", "xqzt vrrp", cwd=indexed)
    assert ran.code == 0 and "weak match" in ran.err and len(ran.lines) == 4


def test_an_empty_library_finds_nothing_and_says_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path).code == 0
    ran = cli("query", "a cat", cwd=tmp_path)
    assert ran.code == 0 and ran.out == b"" and "no pictures yet" in ran.err


def test_a_long_text_is_cut_and_the_cut_is_named(cli: Cli, indexed: Path) -> None:
    ran = cli("query", "a cat " * 300, cwd=indexed)
    assert ran.code == 0 and "characters were ignored" in ran.err


def test_open_hands_the_best_pictures_to_the_desktop(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    opener.chmod(opener.stat().st_mode | stat.S_IXUSR)
    env = {"PATH": f"{opener.parent}:{os.environ['PATH']}", "DISPLAY": ":0"}
    ran = cli("query", "a cat", "-k", "1", "--open", cwd=indexed, env=env)
    assert ran.code == 0
    for _ in range(100):
        if (tmp_path / "opened").exists() and (tmp_path / "opened").stat().st_size:
            break
        time.sleep(0.05)
    assert (tmp_path / "opened").read_text() == ran.text
    without = cli("query", "a cat", "--open", cwd=indexed, env=env | {"PATH": str(tmp_path)})
    assert without.code == 1 and "xdg-open" in without.err and without.text.splitlines()[0].endswith("chelsea.png")


def test_open_says_that_there_is_no_desktop(cli: Cli, indexed: Path) -> None:
    ran = cli("query", "a cat", "--open", cwd=indexed, env={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert ran.code == 1 and "no desktop" in ran.err


@pytest.mark.parametrize("command", [("forget", ""), ("index", ""), ("classify", "", "--labels", "cat")])
def test_an_empty_path_is_not_the_working_folder(cli: Cli, copied: Path, command: tuple[str, ...]) -> None:
    before = cli("info", "--json", cwd=copied).json["files"]
    ran = cli(*command, cwd=copied)
    assert (ran.code, ran.out) == (2, b"") and "empty" in ran.err
    assert cli("info", "--json", cwd=copied).json["files"] == before


def test_names_that_are_gone_do_not_stop_a_list(cli: Cli, copied: Path, tmp_path: Path, indexed: Path) -> None:
    listed = f"{indexed}/photos/rocket.jpg\n{tmp_path}/gone.jpg\n"
    ran = cli("index", "--files-from", "-", "--json", cwd=copied, input=listed.encode())
    assert ran.code == 3 and "gone.jpg: no such file" in ran.err and ran.json["unchanged"] == 1


# classify


def test_a_fifo_is_no_picture(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    ran = cli("classify", str(tmp_path / "pipe.jpg"), "--labels", "cat", "dog", cwd=indexed, timeout=60)
    assert ran.code == 2 and "not a regular file" in ran.err


def labelled(ran_json: dict) -> list[str]:
    return [prediction["label"] for prediction in ran_json["results"][0]["predictions"]]


@pytest.mark.parametrize(
    "given",
    [
        ["--labels", "cat", "dog", "cup of coffee"],
        ["--labels", "cat,dog, cup of coffee"],
        ["--labels", "cat", "--labels=dog", "--labels", "cup of coffee"],
        ["--labels", "@labels.txt"],
        ["--labels", "cat", "@two.txt"],
    ],
)
def test_labels_can_be_given_in_four_ways(cli: Cli, indexed: Path, tmp_path: Path, given: list[str]) -> None:
    (tmp_path / "labels.txt").write_text("# beasts\ncat\ndog  # barks\n\ncup of coffee\n")
    (tmp_path / "two.txt").write_text("dog\ncup of coffee\n")
    image = indexed / "photos" / "chelsea.png"
    ran = cli("classify", image, *given, "--json", "--index", indexed / "index", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert labelled(ran.json)[0] == "cat" and sorted(labelled(ran.json)) == ["cat", "cup of coffee", "dog"]
    assert sum(p["probability"] for p in ran.json["results"][0]["predictions"]) == pytest.approx(1)


def test_synonyms_and_escapes_in_a_file_of_labels(cli: Cli, indexed: Path) -> None:
    text = b"drink: espresso, a cup of coffee\nC\\#: sharp\nratio 3\\:2\n"
    ran = cli("classify", "photos/coffee.png", "--labels", "@-", "--json", cwd=indexed, input=text)
    assert labelled(ran.json)[0] == "drink" and sorted(labelled(ran.json)) == ["C#", "drink", "ratio 3:2"]


def test_an_option_ends_the_labels(cli: Cli, indexed: Path) -> None:
    ran = cli("classify", "photos/chelsea.png", "--labels", "cat", "dog", "-k", "1", "--json", cwd=indexed)
    assert labelled(ran.json) == ["cat"]
    behind = cli("classify", "--labels", "cat", "dog", "--json", "--", "photos/chelsea.png", cwd=indexed)
    assert sorted(labelled(behind.json)) == ["cat", "dog"]


def test_a_picture_among_the_labels_is_pointed_out(cli: Cli, indexed: Path) -> None:
    ran = cli("classify", "photos/chelsea.png", "--labels", "cat", "photos/rocket.jpg", cwd=indexed)
    assert ran.code == 0 and "the label photos/rocket.jpg is also the name of a picture" in ran.err
    ran = cli("classify", "--labels", "cat", "photos/chelsea.png", cwd=indexed)
    assert ran.code == 2 and "pictures come before --labels" in ran.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no labels"),
        (["--labels", "cat", "cat"], "'cat' is given twice"),
        (["--labels", "@gone.txt"], "@gone.txt: no such file"),
        (["--labels", "cat", "--template", "a photo"], "has no {}"),
    ],
)
def test_labels_that_cannot_be(cli: Cli, indexed: Path, given: list[str], said: str) -> None:
    ran = cli("classify", "photos/chelsea.png", *given, cwd=indexed)
    assert ran.code == 2 and said in ran.err


def test_templates_are_averaged(cli: Cli, indexed: Path) -> None:
    def probability(*templates: str) -> float:
        options = [part for template in templates for part in ("--template", template)]
        ran = cli("classify", "photos/chelsea.png", "--labels", "cat", "dog", *options, "--json", cwd=indexed)
        return float(ran.json["results"][0]["predictions"][0]["probability"])

    one, other = probability("{label}"), probability("a drawing of a {label} in a museum")
    both = probability("{label}", "a drawing of a {label} in a museum")
    assert one == probability() and len({one, other, both}) == 3


def test_folders_as_csv_and_as_lines(cli: Cli, indexed: Path) -> None:
    ran = cli("classify", "photos", "--labels", "cat", "rocket", "-k", "1", "--csv", cwd=indexed)
    rows = list(csv.DictReader(io.StringIO(ran.text)))
    assert [Path(row["path"]).name for row in rows] == sorted(p.name for p in (indexed / "photos").iterdir())
    best = {Path(row["path"]).name: row["label"] for row in rows}
    assert (best["chelsea.png"], best["rocket.jpg"]) == ("cat", "rocket")
    lines = cli("classify", "photos/rocket.jpg", "--labels", "cat", "rocket", "-k", "1", cwd=indexed).lines
    path, label, probability = lines[0].split("\t")
    assert (path, label) == (str(indexed / "photos" / "rocket.jpg"), "rocket") and float(probability) > 0.9


def test_classification_works_without_a_library(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    image = indexed / "photos" / "chelsea.png"
    ran = cli("classify", image, "--labels", "cat", "dog", "--model", "builtin", "--json", cwd=tmp_path)
    assert ran.code == 0 and labelled(ran.json) == ["cat", "dog"] and ran.err == ""
    fallback = cli("classify", image, "--labels", "cat", "dog", "--json", cwd=tmp_path)
    assert fallback.code == 0 and "not CLIP" in fallback.err and fallback.json["is_clip"] is False
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_cannot_be_classified(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    image = indexed / "photos" / "chelsea.png"
    some = cli("classify", "text.jpg", image, "--labels", "cat,dog", "--model", "builtin", "--json", cwd=tmp_path)
    assert some.code == 3 and "text.jpg: not a picture" in some.err
    assert some.json["results"][0] == {
        "path": str(tmp_path / "text.jpg"),
        "predictions": [],
        "reason": "not a picture in any known format",
    }
    assert some.json["results"][1]["predictions"][0]["label"] == "cat"
    assert cli("classify", "text.jpg", "--labels", "cat,dog", "--model", "builtin", cwd=tmp_path).code == 2
    assert cli("classify", "gone.jpg", "--labels", "cat,dog", "--model", "builtin", cwd=tmp_path).code == 2


# Which library


def test_the_library_is_the_named_one_or_the_nearest(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    def answers(cwd: Path, *arguments: str | Path, **env: str) -> bool:
        return cli("info", *arguments, cwd=cwd, env=env).code == 0

    assert answers(tmp_path, "--index", indexed / "index")
    assert answers(tmp_path, CLIPSEARCH_INDEX=str(indexed / "index"))
    assert answers(indexed / "photos")
    assert not answers(tmp_path)
    assert cli("info", cwd=tmp_path).code == 2
    assert "--index DIR" in cli("info", cwd=tmp_path).err
    # An index/ that is no library is none, and one that is named is not searched for.
    (tmp_path / "index").mkdir()
    assert not answers(tmp_path)
    named = cli("info", "--index", "elsewhere", cwd=indexed)
    assert named.code == 2 and "no library in" in named.err


def test_a_library_above_that_belongs_to_someone_else_is_passed_over(cli: Cli, copied: Path) -> None:
    below = copied / "below"
    below.mkdir()
    assert cli("info", cwd=below).code == 0
    os.chown(copied / "index", 12345, -1)
    ran = cli("info", cwd=below)
    assert ran.code == 2 and f"skipped {copied / 'index'}" in ran.err
    assert cli("info", cwd=copied).code == 0


# Upkeep


def test_info_says_what_there_is(cli: Cli, indexed: Path) -> None:
    text = cli("info", cwd=indexed).text
    assert "4 ok" in text and "5 present" in text and "not CLIP" in text and "engine exact" in text
    assert "root      photos" in text and "4 indexed" in text
    about = cli("info", "--json", cwd=indexed).json
    assert (about["schema_version"], about["contents"], about["files"]) == (1, {"ok": 4}, {"present": 5})
    assert [root["path"] for root in about["roots"]] == [str(indexed / "photos")]
    assert about["path"] == str(indexed / "index")
    encoder = about["encoders"][0]
    assert (encoder["role"], encoder["vectors"], encoder["engine"]) == ("answering", 4, "exact")
    assert len(encoder["info"]["fingerprint"]) == 64


def test_forget_reroot_and_prune(cli: Cli, copied: Path, indexed: Path) -> None:
    moved = copied / "moved"
    moved.mkdir()
    ran = cli("forget", indexed / "photos" / "rocket.jpg", cwd=copied)
    assert ran.code == 0 and "forgot 1 file" in ran.text
    assert "rocket" not in cli("query", "a rocket launch", cwd=copied).text
    ran = cli("reroot", indexed / "photos", moved, cwd=copied)
    assert ran.code == 0 and "4 files are now in" in ran.text
    assert cli("query", "a cat", "-k", "1", cwd=copied).lines == [str(moved / "chelsea.png")]
    pruned = cli("prune", "--json", cwd=copied).json
    assert (pruned["files"], pruned["contents"], pruned["vectors"]) == (0, 1, 1)
    assert cli("forget", "/nowhere", cwd=copied).code == 2
    assert cli("reroot", "/nowhere", moved, cwd=copied).code == 2


def test_the_doctor_finds_damage_and_says_what_to_do(cli: Cli, copied: Path) -> None:
    well = cli("doctor", cwd=copied)
    assert well.code == 0 and "catalog: OK" in well.text and "faiss-cpu" in well.text
    [snapshot] = [p for p in (copied / "index").iterdir() if p.suffix == ".faiss"]
    snapshot.write_bytes(snapshot.read_bytes()[:-9] + b"123456789")
    ill = cli("doctor", "--json", cwd=copied)
    assert ill.code == 5
    [problem] = [finding for finding in ill.json["findings"] if finding["level"] == "problem"]
    assert "clipsearch index" in problem["advice"]
    ran = cli("query", "a cat", "-k", "1", cwd=copied)
    assert (
        ran.code == 0 and ran.lines[0].endswith("chelsea.png") and ran.err.count("the catalog is searched instead") == 1
    )
    assert cli("index", "--rehash", cwd=copied).code == 0
    assert cli("doctor", cwd=copied).code == 0


def test_a_damaged_catalog_is_exit_5(cli: Cli, copied: Path) -> None:
    (copied / "index" / "catalog.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    for command in (["query", "a cat"], ["info"], ["index"], ["doctor"]):
        ran = cli(*command, cwd=copied)
        assert ran.code == 5 and "Traceback" not in ran.err, command


def test_models_are_listed_and_pulled(cli: Cli, tmp_path: Path) -> None:
    models = {model["spec"]: model for model in cli("models", "--json", cwd=tmp_path).json["models"]}
    assert models["builtin"]["cached"] is True
    assert models["ViT-B-32-256/datacomp_s34b_b86k"]["accuracy"] == 0.728
    assert "ViT-L/14@336px" in cli("models", cwd=tmp_path).text
    assert cli("models", "pull", "builtin", cwd=tmp_path).code == 0
    away = cli("models", "pull", "default", cwd=tmp_path)
    assert away.code == 1 and "HF_HUB_OFFLINE is set" in away.err
    assert cli("models", "pull", "nonsense", cwd=tmp_path).code == 2


# Mistakes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("query", "nothing to look for: give words or a picture"),
        ("qury x", "Did you mean 'query'?"),
        ("query x --foo", "no such option: --foo"),
        ("query x -k 0", "invalid value for '-k'"),
        ("query x --json -0", "exclude one another"),
        ("index", "name what to index"),
        ("index gone", "gone: no such file"),
        ("index . -0", "--files-from"),
        ("index . --model nonsense", "no such model"),
        ("index . --device abacus --model builtin", "abacus"),
    ],
)
def test_a_command_that_cannot_work_is_one_line_and_exit_2(cli: Cli, tmp_path: Path, line: str, said: str) -> None:
    ran = cli(*line.split(), cwd=tmp_path)
    assert (ran.code, ran.out) == (2, b"")
    assert said in ran.err and ran.err.startswith("error: ") and ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback_wherever_it_stands(cli: Cli, tmp_path: Path) -> None:
    assert "Traceback" in cli("query", "x", "--debug", cwd=tmp_path).err
    assert "Traceback" in cli("--debug", "query", "x", cwd=tmp_path).err
    assert "Traceback" not in cli("query", "x", cwd=tmp_path).err


def test_windows_is_refused_in_one_line(cli: Cli, tmp_path: Path) -> None:
    code = "import sys; sys.platform = 'win32'; from clipsearch.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=cli.env, capture_output=True, text=True)
    assert done.returncode == 2 and "Windows is not supported" in done.stderr and done.stderr.count("\n") == 1


def test_no_arguments_show_the_help_and_fail(cli: Cli, tmp_path: Path) -> None:
    ran = cli(cwd=tmp_path)
    assert ran.code == 2 and ran.out == b"" and "Commands:" in ran.err
    assert cli("--help", cwd=tmp_path).text == ran.err
    assert cli("--version", cwd=tmp_path).text.startswith("clipsearch ")
