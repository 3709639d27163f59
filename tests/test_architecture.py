"""The layers are as docs/architecture.md has them: imports run from a row of its table to the same row or one below."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clipsearch"


def layers() -> dict[str, int]:
    """The row of each module or package in the table, from the top."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name.rstrip("/"): i for i, row in enumerate(rows) for name in re.findall(r"`([a-z_]+/?)`", row)}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The top-level modules of the package that a file imports, wherever in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "clipsearch":
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clipsearch."):
            yield (node.module or "").split(".")[1], node.lineno


def test_every_module_stands_in_the_table() -> None:
    modules = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert modules - {"__init__", "__main__"} == set(layers())


def test_imports_run_downward_only() -> None:
    level = layers()
    upward = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        upward += [f"{path.name}:{line}: {own} -> {name}" for name, line in imports(path) if level[name] < level[own]]
    assert not upward
