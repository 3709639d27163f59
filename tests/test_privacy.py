"""Nothing leaves the machine, except requests for models; nothing is written outside clipsearch's own folders."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hubserver import serving
from test_architecture import FILES

OPEN_A_SESSION = """
import sys, time
from pathlib import Path
import onnx
from onnx import TensorProto, helper
from clipsearch.encoders.onnx.tower import open_session
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "copy", [x], [y])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[1])
session = open_session(Path(sys.argv[1]))
time.sleep(20)
"""

PULL = """
from clipsearch.encoders.clip import hub
import timm  # as an index run with the built-in encoder, before another model is wanted
hub.pull("hf-hub:someone/tiny")
"""


def new_user(folder: Path, **extra: str) -> dict[str, str]:
    """The environment of somebody who has just got the machine; `CI` would hide what others see."""
    places = {"HOME": "home", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "TMPDIR": "tmp"}
    for name in places.values():
        (folder / name).mkdir()
    paths = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return paths | {name: str(folder / place) for name, place in places.items()} | extra


def test_an_open_session_contacts_nobody_and_writes_nothing(tmp_path: Path) -> None:
    env = new_user(tmp_path, ORT_DISABLE_TELEMETRY="0", PYTHONDONTWRITEBYTECODE="1")
    graph, trace = tmp_path / "graph.onnx", tmp_path / "trace"
    watch = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=socket,connect"]
    subprocess.run([*watch, sys.executable, "-c", OPEN_A_SESSION, str(graph)], env=env, check=True, timeout=120)
    assert re.findall(r".*AF_INET.*", trace.read_text()) == []
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {graph, trace}


def test_a_download_says_nothing_about_the_machine(tmp_path: Path) -> None:
    names = ("open_clip_config.json", "open_clip_model.safetensors")
    with serving({f"someone/tiny/{name}": b"{}" for name in names}) as hub:
        env = new_user(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_TELEMETRY="0")
        subprocess.run([sys.executable, "-c", PULL], env=env, check=True, timeout=120)
    paths = {request.split()[1] for request in hub.seen}
    assert paths == {f"/someone/tiny/resolve/main/{name}" for name in names}
    assert not [agent for agent in hub.agents if "torch" in agent or "agent/" in agent]


def imported(path: Path) -> Iterator[str]:
    """The packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


def importers(*packages: str) -> set[str]:
    return {module for module, path in FILES.items() if set(packages) & set(imported(path))}


def test_one_module_imports_onnxruntime_for_all_others() -> None:
    assert importers("onnxruntime") == {"clipsearch.encoders.onnx.ort"}


def test_what_talks_to_the_hub_is_imported_below_the_package_that_switches_telemetry_off() -> None:
    modules = importers("huggingface_hub", "open_clip", "timm", "transformers")
    assert modules and all(module.startswith("clipsearch.encoders.") for module in modules)
