"""The layers are as docs/architecture.md has them, and no two files import each other, directly or through others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clipsearch"

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
"""Every file of the package by its module."""


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, wherever in it: late, and for type checkers only, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in FILES else node.module


def layers() -> dict[str, int]:
    """The row of each package or module in the table, from the top."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name.rstrip("/"): i for i, row in enumerate(rows) for name in re.findall(r"`([a-z_]+/?)`", row)}


def room(module: str) -> str:
    """The package, or the module beside packages, that a module belongs to."""
    return module.split(".")[1]


def test_every_module_stands_in_the_table() -> None:
    modules = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert modules - {"__init__", "__main__"} == set(layers())


def test_imports_run_downward_only() -> None:
    level = layers()
    upward = [
        f"{module} -> {other}"
        for module, path in FILES.items()
        if module not in ("clipsearch", "clipsearch.__main__")
        for other in imported(path)
        if room(other) != room(module) and level[room(other)] <= level[room(module)]
    ]
    assert not upward


def test_no_file_imports_itself_through_others() -> None:
    try:
        TopologicalSorter({module: set(imported(path)) - {module} for module, path in FILES.items()}).prepare()
    except CycleError as exc:
        raise AssertionError(" -> ".join(exc.args[1])) from exc


def attributes(path: Path, name: str) -> list[int]:
    """The lines of a file in which an attribute of that name is used."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == name]


def test_only_the_catalog_and_index_runs_speak_sql() -> None:
    outside = [
        f"{module}:{line}"
        for module, path in FILES.items()
        if not module.startswith(("clipsearch.catalog", "clipsearch.indexing"))
        for line in attributes(path, "conn")
    ]
    assert not outside


def test_one_place_knows_how_a_vector_is_stored() -> None:
    others = {"clipsearch.classify.store", "clipsearch.search.relevance"}  # Files and a cached fact of their own.
    reads = {module for module, path in FILES.items() if attributes(path, "frombuffer")}
    assert reads - others == {"clipsearch.catalog.embeddings"}
