"""Messages of the library name parameters, not options: Python code must not be told of `-k` for its `k=0`."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipsearch.cli import output

PACKAGE = Path(__file__).parents[1] / "clipsearch"


def test_the_command_line_shows_parameters_as_its_options() -> None:
    documented = (PACKAGE.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    for parameter, option in output._OPTIONS.items():
        assert f"{option} " in documented or f"{option}`" in documented, option
        assert output.as_options(f"try `{parameter}` first") == f"try {option} first"


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
    assert output.as_options(message) == shown
