"""How alike images, texts and vectors are: numbers, their forms, and what is refused."""

from __future__ import annotations

import csv
import io
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from terminal import on_terminal
from test_imports import NEVER, imported

from clipsearch.errors import UsageError
from clipsearch.search.similarity import Vector, compare_vectors, measure, parse_vector

FOUR = ("[1, 0]", "[1, 0.5]", "[-1, 1]", "[0, 1]")


def vectors(*texts: str) -> list[Vector]:
    parsed = [parse_vector(text) for text in texts]
    return [vector for vector in parsed if vector is not None]


# The numbers


def test_the_four_vectors_of_the_figure() -> None:
    found = compare_vectors(vectors(*FOUR))
    assert [round(float(cosine), 2) for cosine in found.cosines[0]] == [1.0, 0.89, -0.71, 0.0]
    assert found.angles[0] == pytest.approx([0, np.degrees(np.arctan(0.5)), 135, 90], abs=1e-12)
    assert found.cosines[0, 3] == 0 and not np.signbit(found.cosines[0, 3])
    assert found.model is None


coordinates = st.integers(-1000, 1000)
planes = st.lists(st.tuples(coordinates, coordinates, coordinates).filter(any), min_size=2, max_size=6)


@given(planes)
def test_cosines_and_angles_are_those_of_exact_arithmetic(rows: list[tuple[int, int, int]]) -> None:
    cosines, angles = measure(np.array(rows, np.float64))
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            inner = Fraction(sum(x * y for x, y in zip(a, b, strict=True)))
            lengths = sum(x * x for x in a), sum(x * x for x in b)
            exact = float(inner) / float(lengths[0] * lengths[1]) ** 0.5
            assert cosines[i, j] == pytest.approx(exact, abs=1e-12)
            # The cross product gives the angle to full precision where the cosine cannot.
            cross = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
            angle = np.degrees(np.arctan2(float(sum(x * x for x in cross)) ** 0.5, float(inner)))
            assert angles[i, j] == pytest.approx(angle, abs=1e-9)


def test_small_angles_keep_their_digits_and_lengths_do_not_matter() -> None:
    angles = measure(np.array([[1.0, 0.0], [1.0, 1e-9]]))[1]
    assert angles[0, 1] == pytest.approx(np.degrees(1e-9), rel=1e-6)
    cosines, angles = measure(np.array([[1e-300, 1e-300], [1e300, 0.0], [0.0, -1e-200]]))
    assert cosines[0] == pytest.approx([1, 0.5**0.5, -(0.5**0.5)]) and angles[1, 2] == pytest.approx(90)


# What is a vector


@pytest.mark.parametrize(
    ("text", "numbers"), [("[1, 0.5]", (1, 0.5)), ("[1 -2e3]", (1, -2000)), ("[ 3,4 ]", (3, 4)), ("[7]", (7,))]
)
def test_vectors_are_numbers_in_brackets(text: str, numbers: tuple[float, ...]) -> None:
    assert parse_vector(text) == Vector(numbers)


def test_words_are_no_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[1, 2]").touch()
    for text in ("a dog", " [sic]", "[1, 2", "[1, 2] apples", "[1, 2]"):
        assert parse_vector(text) is None, text


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["[1, x]", "[1, 2]"], "[1, x]: a vector is written [1, 0.5]"),
        (["[]", "[1, 2]"], "[]: a vector is written"),
        (["[0, 0]", "[1, 2]"], "[0, 0]: a zero vector has no direction"),
        (["[1, nan]", "[1, 2]"], "must be finite"),
        (["[1, 2]", "[1, 2, 3]"], "[1, 2, 3] has 3 numbers, [1, 2] has 2"),
        (["[1, 2]"], "two or more"),
    ],
)
def test_what_cannot_be_compared_is_said(texts: list[str], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        compare_vectors(vectors(*texts))
    assert says in str(refused.value) and "\n" not in str(refused.value)


# The command


def test_vectors_need_no_model(cli: Cli, tmp_path: Path) -> None:
    names = imported(cli, tmp_path, "similarity", *FOUR)
    assert names & (NEVER | {"onnxruntime", "PIL", "tokenizers", "matplotlib", "sklearn", "faiss"}) == set()


def test_two_are_one_plain_line_in_a_pipe_and_on_a_terminal(cli: Cli, tmp_path: Path) -> None:
    assert cli("similarity", *FOUR[:2], cwd=tmp_path).text == "0.894427\t26.5651\t[1, 0]\t[1, 0.5]\n"
    shown = on_terminal(cli.command("similarity", *FOUR[:2]), cwd=tmp_path, env=cli.env)
    assert shown == "cosine 0.8944, angle 26.57°, between [1, 0] and [1, 0.5]\n"


def test_more_are_two_tables_on_a_terminal_and_a_line_each_two_in_a_pipe(cli: Cli, tmp_path: Path) -> None:
    shown = on_terminal(cli.command("similarity", *FOUR[:3]), cwd=tmp_path, env=cli.env)
    assert shown == (
        "cosine    [1, 0]  [1, 0.5]  [-1, 1]\n"
        "[1, 0]     1.000     0.894   -0.707\n"
        "[1, 0.5]   0.894     1.000   -0.316\n"
        "[-1, 1]   -0.707    -0.316    1.000\n"
        "\n"
        "degrees   [1, 0]  [1, 0.5]  [-1, 1]\n"
        "[1, 0]       0.0      26.6    135.0\n"
        "[1, 0.5]    26.6       0.0    108.4\n"
        "[-1, 1]    135.0     108.4      0.0\n"
    )
    assert len(cli("similarity", *FOUR, cwd=tmp_path).lines) == 6


def test_columns_are_numbered_where_their_names_do_not_fit(cli: Cli, tmp_path: Path) -> None:
    many = [f"[{n}, 1, 1, 1, 1, 1]" for n in range(8)]
    shown = on_terminal(cli.command("similarity", *many), cwd=tmp_path, env=cli.env, columns=90)
    assert shown.splitlines()[0].split() == ["cosine", *"12345678"]
    assert shown.splitlines()[8].startswith("8  [7, 1, 1, 1, 1, 1] ")
    assert max(map(len, shown.splitlines())) <= 90


def test_csv_is_a_matrix_with_names_and_json_has_everything(cli: Cli, tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(cli("similarity", *FOUR, "--csv", cwd=tmp_path).text)))
    assert rows[0] == ["", *FOUR] and [row[0] for row in rows[1:]] == list(FOUR)
    told = cli("similarity", *FOUR, "--json", cwd=tmp_path).json
    assert told["model"] is None and [item["kind"] for item in told["items"]] == ["vector"] * 4
    assert np.array(told["cosines"]) == pytest.approx(np.array(rows[1:])[:, 1:].astype(float), abs=1e-6)
    assert told["angles"][0] == pytest.approx([0, 26.565, 135, 90], abs=1e-3)
    assert cli("similarity", *FOUR, "--csv", "--json", cwd=tmp_path).code == 2


def test_a_picture_that_the_library_holds_is_not_encoded_again(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    stored = ("similarity", "photos/chelsea.png", "photos/coffee.png", "id:1")
    assert imported(cli, indexed, *stored) & {"onnxruntime", "PIL", "torch"} == set()
    # The same numbers as from encoding them, without a library.
    (tmp_path / "photos").symlink_to(indexed / "photos")
    fresh = cli(*stored[:3], "a cat", "--model", "builtin", "--json", cwd=tmp_path).json
    with_library = cli(*stored[:3], "a cat", "--json", cwd=indexed).json
    assert np.array(with_library["cosines"]) == pytest.approx(np.array(fresh["cosines"]), abs=1e-5)
    assert fresh["cosines"][0][2] > fresh["cosines"][1][2] + 0.2  # The cat is more of a cat than the cup.
    assert [item["kind"] for item in fresh["items"]] == ["picture", "picture", "text"]
    assert fresh["items"][0]["path"] == str(tmp_path / "photos" / "chelsea.png")


def test_an_id_its_file_and_its_own_vector_are_one(cli: Cli, indexed: Path) -> None:
    hit = cli("query", "a cat", "-k", "1", "--json", cwd=indexed).json["hits"][0]
    ran = cli("similarity", f"id:{hit['id']}", hit["path"], "--json", cwd=indexed).json
    assert ran["cosines"] == [[1, 1], [1, 1]] and ran["angles"][0][1] == pytest.approx(0, abs=1e-6)
    assert ran["items"][0]["id"] == hit["id"] and ran["items"][0]["path"] == hit["path"]
    axis = f"[{', '.join(['1', *['0'] * 383])}]"
    cosine = cli("similarity", axis, "a cat", "--json", cwd=indexed).json
    assert cosine["items"][0]["name"] == "[1, 0, 0, 0, 0, 0, … 378 more]" and -1 < cosine["cosines"][0][1] < 1


def test_a_part_of_a_picture_and_standard_input(cli: Cli, indexed: Path) -> None:
    photo = indexed / "photos" / "chelsea.png"
    whole = cli("similarity", str(photo), f"{photo}#0,0,100%,100%", "--json", cwd=indexed).json
    assert whole["cosines"][0][1] == pytest.approx(1, abs=1e-4)
    part = cli("similarity", str(photo), f"{photo}#0,0,20%,20%", "--json", cwd=indexed).json
    assert part["cosines"][0][1] < 0.9
    given_ = cli("similarity", str(photo), "-", "--json", cwd=indexed, input=photo.read_bytes()).json
    assert given_["cosines"][0][1] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["photos/chelsea.png"], 2, "two or more"),
        (["[1, 0]", "a cat"], 2, "[1, 0] has 2 numbers, a vector of builtin has 384"),
        (["nowhere.jpg", "a cat"], 2, "nowhere.jpg: no such file"),
        (["id:99", "a cat"], 2, "id:99: the library holds no such image"),
        (["broken.jpg", "a cat"], 2, "broken.jpg: not a picture"),
        (["-", "-"], 2, "given only once"),
        (["photos/chelsea.png#1,2", "a cat"], 2, "#x,y,width,height"),
        (["photos/chelsea.png", "a cat", "--model", "ViT-L/14", "--index", "index"], 4, "no embeddings of ViT-L/14"),
    ],
)
def test_what_cannot_be_is_one_line(
    cli: Cli, copied: Path, indexed: Path, arguments: list[str], code: int, says: str
) -> None:
    (copied / "photos").symlink_to(indexed / "photos")
    (copied / "broken.jpg").write_bytes(b"nothing")
    ran = cli("similarity", *arguments, cwd=copied)
    assert (ran.code, ran.out) == (code, b"") and says in ran.err and len(ran.err.splitlines()) == 1


def test_an_id_without_a_library_is_refused_before_a_model_is_loaded(cli: Cli, tmp_path: Path) -> None:
    ran = cli("similarity", "id:1", "a cat", cwd=tmp_path)
    assert ran.code == 2 and "no library here" in ran.err


def test_names_come_out_as_the_file_system_has_them(cli: Cli, tmp_path: Path) -> None:
    name = b"caf\xe9 \x1b[31m.png"
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / os.fsdecode(name))
    ran = cli("similarity", name, "a.png", "--model", "builtin", cwd=tmp_path)
    assert ran.out.split(b"\t")[2] == name
    told = cli("similarity", name, "a.png", "--model", "builtin", "--json", cwd=tmp_path)
    assert "path_b64" in told.json["items"][0] and b"\x1b" not in told.out
    shown = on_terminal(cli.command("similarity", name, "a.png", "--model", "builtin"), cwd=tmp_path, env=cli.env)
    assert "\x1b" not in shown and r"caf\xe9 \x1b[31m.png" in shown
