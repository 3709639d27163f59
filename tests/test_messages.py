"""Messages of the library name parameters, not options: Python code must not be told of `-k` for its `k=0`.

The server is started from the command line, and its parameters have the names of options.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipsearch.export import options

PACKAGE = Path(__file__).parents[1] / "clipsearch"
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+|-[0k])(?!\w)")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The string constants of a file that may end up in a message: all but docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_no_message_of_the_library_names_an_option() -> None:
    named = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "serve") and path != Path(options.__file__)
        for line, text in texts(path)
        if OPTION.search(text)
    ]
    assert not named, "\n".join(named)


def test_the_command_line_shows_parameters_as_its_options() -> None:
    documented = (PACKAGE.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    for parameter, option in options._OPTIONS.items():
        assert f"{option} " in documented or f"{option}`" in documented, option
        assert options.as_options(f"try `{parameter}` first") == f"try {option} first"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('try `device="cpu"`', "try --device cpu"),
        ("`relevant=True` needs a sum", "--relevant needs a sum"),
        ("`k=0`: at least 1", "-k 0: at least 1"),
        ("`clipsearch doctor` tells more", "`clipsearch doctor` tells more"),
        ("the file `device` cannot be `opened`", "the file --device cannot be `opened`"),
    ],
)
def test_a_message_as_both_show_it(message: str, shown: str) -> None:
    assert options.as_options(message) == shown
