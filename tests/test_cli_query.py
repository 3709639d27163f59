"""`clipsearch query` and `show` through the program: terms, filters, and every form of an answer."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from conftest import Cli
from PIL import Image, ImageOps
from test_xmp import packet

from clipsearch.cli.commands import demo


def names(lines: list[str]) -> list[str]:
    return [Path(line).name for line in lines]


def test_terms_of_every_kind_are_taken(cli: Cli, indexed: Path) -> None:
    hit = cli("query", "a cat", "-k", "1", "--json", cwd=indexed).json["hits"][0]
    again = cli("query", f"id:{hit['id']}", "-k", "1", cwd=indexed)
    assert names(again.lines) == ["chelsea.png"]
    piped = cli("query", "-", "-k", "1", cwd=indexed, input=(indexed / "photos" / "rocket.jpg").read_bytes())
    assert names(piped.lines) == ["rocket.jpg"]
    part = cli("query", "photos/rocket.jpg#0,0,100%,100%", "-k", "1", cwd=indexed)
    assert names(part.lines) == ["rocket.jpg"] and "like the file" in part.err
    both = cli(
        "query", "a cat", "--with", "a cup of coffee^2", "--like", "photos/coffee.png", "--json", cwd=indexed
    ).json
    assert (both["score_kind"], Path(both["hits"][0]["path"]).name[:6]) == ("combined", "coffee")
    without = cli("query", "a cat", "--without", "photos/chelsea.png^3", "--json", cwd=indexed).json
    assert without["score_kind"] == "penalised" and Path(without["hits"][0]["path"]).name != "chelsea.png"
    assert cli("query", "a cat", "--with", "a dog", "--all", "--json", cwd=indexed).json["score_kind"] == "least"


def test_words_that_the_encoder_cannot_tell_apart_are_reported(cli: Cli, indexed: Path) -> None:
    said = "note: builtin cannot tell these apart, so each image matches them equally: 猫 = 狗\n"
    assert said in cli("query", "猫", "--without", "狗", cwd=indexed).err
    assert said in cli("classify", "--labels", "猫,a rocket,狗", cwd=indexed).err
    assert "tell" not in cli("query", "a cat", "--with", "a kitten", "--without", "cats", cwd=indexed).err
    assert "tell" not in cli("classify", "--labels", "@imagenet", cwd=indexed).err


def test_excluded_words_that_the_encoder_does_not_know_are_reported(cli: Cli, indexed: Path) -> None:
    said = "note: builtin does not know 猫, so such images are not excluded\n"
    assert cli("query", "a rocket", "--without", "猫", cwd=indexed).err.count(said) == 1
    known = cli("query", "a rocket", "--without", "a cat", "--without", "photos/coffee.png", cwd=indexed)
    assert known.code == 0 and "know" not in known.err
    assert cli("query", "a rocket", "--without", "猫", "--all", "--json", cwd=indexed).json["notices"] == [said[6:-1]]


def test_filters_leave_what_they_say(cli: Cli, indexed: Path) -> None:
    def found(*filters: str) -> set[str]:
        ran = cli("query", "a picture", *filters, cwd=indexed)
        assert ran.code == 0, ran.err
        return set(names(ran.lines))

    assert found("--format", "jpg") == {"rocket.jpg"}
    assert found("--in", "*.jpg") == {"rocket.jpg"}
    assert "rocket.jpg" in found("--in", "photos") and found("--in", "nowhere") == set()
    assert found("--portrait") == set()
    assert found("--min-size", "600x400") == {"coffee-again.png", "rocket.jpg"}
    assert found("--taken", "2009-02") == {"chelsea.png"} and found("--taken", "2010..2030") == set()
    assert found("--indexed-since", "2100-01-01") == set()
    assert len(found("--state", "ok", "--indexed-since", "2020-01-01")) == 4


def test_answers_come_in_every_form(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("query", "a cat", "--csv", cwd=indexed).text)))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"] and Path(rows[0]["path"]).name == "chelsea.png"
    unfolded = cli("query", "a cup of coffee", "--unfold", cwd=indexed).lines
    assert sorted(names(unfolded[:2])) == ["coffee-again.png", "coffee.png"] and len(unfolded) == 5
    paged = cli("query", "a cat", "-k", "2", "--page", "2", cwd=indexed).lines
    assert paged == cli("query", "a cat", "-k", "4", cwd=indexed).lines[2:]
    arranged = cli("query", "a cat", "--sort", "path", cwd=indexed).lines
    assert arranged == sorted(arranged)
    page, copies, links = tmp_path / "page.html", tmp_path / "copies", tmp_path / "links"
    wanted = ("--html", str(page), "--copy-to", str(copies), "--link-to", str(links))
    ran = cli("query", "a cat", "-k", "2", *wanted, cwd=indexed)
    assert ran.code == 0 and len(ran.lines) == 2
    assert page.read_text().count("data:image/") >= 2
    assert sorted(p.name for p in copies.iterdir()) == sorted(p.name for p in links.iterdir())
    assert all(p.is_symlink() for p in links.iterdir())
    assert cli("query", "a cat", "-k", "2", "--copy-to", str(copies), cwd=indexed).err.startswith("note: 0 copied")


def test_many_queries_come_from_a_file(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("a cat\n\na rocket launch\n")
    ran = cli("query", "--file", str(tmp_path / "queries.txt"), "-k", "1", cwd=indexed)
    answers = [json.loads(line) for line in ran.lines]
    assert [a["query"] for a in answers] == ["a cat", "a rocket launch"]
    assert [Path(a["hits"][0]["path"]).name for a in answers] == ["chelsea.png", "rocket.jpg"]
    assert cli("query", "--file", "-", "-k", "1", cwd=indexed, input=b"a cat\n").text == ran.lines[0] + "\n"


def test_relevance_in_a_library_of_a_few_images_is_no_failure(cli: Cli, copied: Path) -> None:
    few = cli("query", "a cat", "--relevant", "--without", "a dog", cwd=copied)
    assert (few.code, few.out) == (2, b"")
    ran = cli("query", "xqzzt vvbk", "--relevant", cwd=copied)
    assert (ran.code, len(ran.lines)) == (0, 4) and "cannot be determined in a library of fewer than 10" in ran.err


def test_relevant_hits_are_counted_beyond_the_page(cli: Cli, tmp_path: Path) -> None:
    written = demo.write_photos(tmp_path / "photos")
    with Image.open(written.folder / "chelsea.png") as cat:
        ImageOps.mirror(cat).save(written.folder / "mirrored.png")
    assert cli("index", str(written.folder), "--model", "builtin", "--index", "library", cwd=tmp_path).code == 0
    ask = ("query", "a cat", "--relevant", "--index", "library")
    whole = cli(*ask, "-k", "100", cwd=tmp_path)
    count = len(whole.lines)
    assert count >= 2 and f"note: {count} relevant pictures" in whole.err
    one = cli(*ask, "-k", "1", "--json", cwd=tmp_path)
    assert (one.json["relevant_total"], one.json["relevant_total_exact"], len(one.json["hits"])) == (count, True, 1)
    assert f"note: 1 of {count} relevant pictures" in one.err
    none = cli("query", "xqzzt vvbk", "--relevant", "--index", "library", cwd=tmp_path)
    assert (none.code, none.out) == (0, b"") and "no confident match" in none.err
    assert cli("query", "a cat", "--index", "library", "--json", cwd=tmp_path).json["relevant_total"] is None


def test_show_says_everything(cli: Cli, indexed: Path) -> None:
    ran = cli("show", "photos/coffee.png", "-k", "1", cwd=indexed)
    assert ran.code == 0 and "PNG, 600×400" in ran.text and "coffee-again.png" in ran.text
    shown = cli("show", "photos/coffee.png", "--json", cwd=indexed).json
    assert len(shown["files"]) == 2 and cli("show", str(shown["id"]), "--json", cwd=indexed).json == shown
    unknown = cli("show", "nothing.jpg", cwd=indexed)
    assert (unknown.code, unknown.out) == (2, b"")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a cat", "--taken", "soon"), "--taken soon"),
        (("a cat", "--near", "1,2"), "--near 1,2"),
        (("a cat", "--min-size", "big"), "--min-size big"),
        (("a cat", "--state", "failed"), "--state': 'failed' is not one of 'ok', 'partial'"),
        (("a cat", "--sort", "size"), "--sort': 'size' is not one of 'score'"),
        (("a cat", "--landscape", "--portrait"), "exclude"),
        (("a cat", "--like", "none.jpg"), "none.jpg"),
        (("id:99999",), "id:99999"),
        (("a cat^-1",), "a cat^-1: a weight must be from 0.001 to 1000; use --without"),
        (("a", "cat^0"), "cat^0: a weight must be from 0.001 to 1000; use --without"),
        (("a cat", "--with", "a dog^-1"), "a weight must be from 0.001 to 1000; use --without"),
        (("a cat", "--with", "a dog^2", "--all"), "a dog: --all takes no weights"),
        (("a cat", "--without", "a dog", "--relevant"), "--relevant does not work with --without or --all"),
        (("--file", "q.txt", "a cat"), "--file"),
    ],
)
def test_what_makes_no_sense_is_one_line(cli: Cli, indexed: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = cli("query", *arguments, cwd=indexed)
    assert (ran.code, ran.out) == (2, b"")
    assert said in ran.err and ran.err.count("\n") == 1


def test_a_picture_that_vanished_is_reported_where_it_was_to_be_copied(cli: Cli, copied: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(Path(__file__).parents[1] / "data" / "golden" / "cliff-on-white.png", own / "one.png")
    assert cli("index", "own", "--index", "mine", "--model", "builtin", cwd=tmp_path).code == 0
    (own / "one.png").unlink()
    ran = cli("query", "a meadow", "--index", "mine", "--copy-to", "out", cwd=tmp_path)
    assert ran.code == 3 and "one.png" in ran.err


def test_an_engine_is_kept_and_gives_the_same_answers(cli: Cli, copied: Path) -> None:
    before = cli("query", "a cat", "--json", cwd=copied).json["hits"]
    for engine in ("ivf", "auto"):
        assert cli("index", "--engine", engine, cwd=copied).code == 0
        [held] = cli("info", "--json", cwd=copied).json["encoders"]
        assert held["engine"] == ("ivf" if engine == "ivf" else "exact")
        assert cli("query", "a cat", "--json", cwd=copied).json["hits"] == before
    assert cli("index", "--engine", "quick", cwd=copied).code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("query", f"id:{10**22}"), "the library holds no such image"),
        (("show", f"id:{10**22}"), "no such image"),
        (("query", "a cat", "--copy-to", ""), "the path is empty"),
        (("query", "./photos"), "a folder, not a picture"),
        (("query", "photos/none.jpg#0,0,9,9"), "no such file"),
        (("index", "--max-pixels", "nan"), "number of megapixels"),
    ],
)
def test_what_cannot_be_is_one_line(cli: Cli, indexed: Path, words: tuple[str, ...], says: str) -> None:
    ran = cli(*words, cwd=indexed)
    assert ran.code == 2 and says in ran.err and len(ran.err.splitlines()) == 1


def test_no_size_is_too_large_to_ask_for(cli: Cli, indexed: Path) -> None:
    ran = cli("query", "a cat", "--min-size", f"{10**22}x1", cwd=indexed)
    assert (ran.code, ran.text) == (0, "") and "no pictures match the filter" in ran.err


def test_a_weak_match_goes_by_the_best_hit(cli: Cli, indexed: Path) -> None:
    assert "weak match" not in cli("query", "a cat", "-k", "15", "--sort", "path", cwd=indexed).err
    assert "weak match" not in cli("query", "a cat", "-k", "3", "--page", "3", cwd=indexed).err


def test_words_stars_and_names_are_filters(cli: Cli, tmp_path: Path) -> None:
    words = "<dc:subject><rdf:Bag><rdf:li>Zoë</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>"
    caption = "<dc:description>Grandma dancing</dc:description>"
    for name, attributes, elements in (
        ("Fête.jpg", 'xmp:Rating="5" photoshop:DateCreated="2021-05-03"', caption),
        ("beach.jpg", 'xmp:Rating="-1"', words),
        ("plain.jpg", "", ""),
    ):
        (tmp_path / "photos").mkdir(exist_ok=True)
        image = Image.effect_noise((64, 64), len(name) * 9).convert("RGB")
        image.save(tmp_path / "photos" / name, xmp=packet(attributes, elements).encode())
    cli("index", "photos", "--model", "builtin", cwd=tmp_path)

    def found(*options: str) -> set[str]:
        return set(names(cli("query", "a house", *options, cwd=tmp_path).lines))

    assert found("--tag", "zoe") == found("--tag", "ZOË", "--tag", "sea") == {"beach.jpg"}
    assert found("--rating", "4..5") == found("--caption", "GRANDMA") == found("--name", "fete") == {"Fête.jpg"}
    assert found("--rating", "-1") == {"beach.jpg"} and found("--rating", "0") == {"plain.jpg"}
    assert found("--taken", "2021-05-03") == found("--taken", "2021-05-03", "--name", ".jpg") == {"Fête.jpg"}
    for option, value in (("--rating", "7"), ("--rating", "5..1"), ("--tag", ""), ("--caption", " "), ("--name", "")):
        refused = cli("query", "a house", option, value, cwd=tmp_path)
        assert refused.code == 2 and refused.err.count("\n") == 1 and option in refused.err
    assert not found("--tag", "ze")
