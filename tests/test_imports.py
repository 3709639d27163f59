"""What a command does not import: `--help` nothing heavy, a query no torch. Start-up time is mostly imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli
from servers import served

NEVER = {
    "torch",
    "jinja2",
    "open_clip",
    "transformers",
    "timm",
    "sqlite_utils",
    "pydantic",
    "rich",
    "onnx",
    "onnxscript",
    "tifffile",
    "imagecodecs",
    "tzfpy",
    "pathspec",
    "pyexpat",
}
HEAVY = NEVER | {"numpy", "faiss", "PIL", "onnxruntime", "tokenizers", "huggingface_hub", "safetensors", "tqdm"}

REPORT = """
import json, sys
from clipsearch.__main__ import main
arguments = json.loads(sys.argv[1])
sys.argv = ["clipsearch", *arguments]
code = main()
sys.stderr.write(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported(cli: Cli, cwd: Path, *arguments: str) -> set[str]:
    command = [sys.executable, "-c", REPORT, json.dumps(arguments)]
    done = subprocess.run(command, cwd=cwd, env=cli.env, capture_output=True, text=True, timeout=120)
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(names)


@pytest.mark.parametrize("command", [["--help"], ["query", "--help"], ["index", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    assert imported(cli, tmp_path, *command) & HEAVY == set()


def test_the_top_help_does_not_even_import_typer(cli: Cli, tmp_path: Path) -> None:
    assert "typer" not in imported(cli, tmp_path, "--help")


def test_a_query_imports_no_training_framework(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    library = str(indexed / "index")
    names = imported(cli, tmp_path, "query", "something never asked before", "--index", library)
    assert names & NEVER == set() and {"onnxruntime", "sqlite3"} <= names
    like = imported(cli, indexed, "query", "photos/chelsea.png")
    assert like & NEVER == set()


def test_a_query_that_was_asked_before_touches_no_model(cli: Cli, copied: Path) -> None:
    imported(cli, copied, "query", "a cat")
    assert imported(cli, copied, "query", "a cat") & (NEVER | {"onnxruntime", "tokenizers", "PIL"}) == set()


def test_a_query_to_a_server_imports_no_library(cli: Cli, copied: Path) -> None:
    with served(cli, copied) as server:
        for form in ([], ["--json"], ["--csv"], ["--in", "photos"]):
            assert imported(cli, copied, "query", "a cat", "--server", str(server.url), *form) & HEAVY == set()


def test_no_cache_asks_the_model_again(cli: Cli, copied: Path) -> None:
    assert cli("query", "a cat", cwd=copied).out == cli("query", "a cat", "--no-cache", cwd=copied).out
    assert "onnxruntime" in imported(cli, copied, "query", "a cat", "--no-cache")


def test_a_run_that_finds_nothing_new_loads_no_framework(cli: Cli, copied: Path) -> None:
    assert imported(cli, copied, "index") & (NEVER - {"sqlite_utils"}) == set()


def test_reading_commands_import_no_framework(cli: Cli, indexed: Path) -> None:
    for command in (["info"], ["models"], ["info", "--files", "failed"]):
        assert imported(cli, indexed, *command) & NEVER == set(), command
