"""Folders for labels: no name clashes, and none leads elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clipsearch.classify.results import Classification, ClassifyResult, Prediction
from clipsearch.export.folders import export_folders, folder_names
from clipsearch.types import EncoderInfo, Preprocess

INFO = EncoderInfo("test", "print", 4, 20.0, None, Preprocess(8))


@given(st.lists(st.text(min_size=1), max_size=12))
def test_folders_are_safe_and_each_labels_own(labels: list[str]) -> None:
    names = folder_names(labels)
    assert len({name.casefold() for name in names.values()}) == len(set(labels)) == len(names)
    for name in names.values():
        assert name and os.path.basename(name) == name and not name.startswith(".") and "\0" not in name
        assert len(os.fsencode(name)) <= 255


def test_names_that_mean_something_to_the_system() -> None:
    assert folder_names(["..", ".", "a/b", "Cat", "cat", "a_b"]) == {
        "..": "_",
        ".": "_-2",
        "a/b": "a_b",
        "Cat": "Cat",
        "cat": "cat-2",
        "a_b": "a_b-2",
    }


def result(*items: tuple[Path, str]) -> ClassifyResult:
    labels = tuple(dict.fromkeys(label for _, label in items))
    return ClassifyResult(
        INFO, tuple(Classification(str(p), (Prediction(label, 1.0, 1.0),)) for p, label in items), (), labels
    )


def test_two_pictures_of_one_name_both_arrive(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_text(folder)
    items = [(tmp_path / "a" / "x.jpg", "../cat"), (tmp_path / "b" / "x.jpg", "../cat")]
    done = export_folders(result(*items, (tmp_path / "gone.jpg", "../cat")), tmp_path / "out")
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.jpg")} == {
        "_._cat/x.jpg",
        "_._cat/x-2.jpg",
    }
    assert dict(done.counts) == {"../cat": 2} and done.existed == 0
    assert [Path(problem.path).name for problem in done.failed] == ["gone.jpg"]
