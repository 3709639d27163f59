"""What tests of the whole program share: a runner of real subprocesses, and photographs in a library."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background job: what the tests start would inherit it, and Ctrl-C is among what they try.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


@dataclass(frozen=True)
class Ran:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cli:
    """Runs `python -m clipsearch` as a process of its own, off the network."""

    def __init__(self, cache: Path, home: Path) -> None:
        drop = (
            "CLIPSEARCH_INDEX",
            "CLIPSEARCH_SERVER",
            "CLIPSEARCH_TOKEN",
            "NO_COLOR",
            "FORCE_COLOR",
            "COLUMNS",
            "PYTHONUNBUFFERED",
            "HF_HUB_CACHE",
            "XDG_CACHE_HOME",
        )
        self.env = {key: value for key, value in os.environ.items() if key not in drop} | {
            "CLIPSEARCH_CACHE": str(cache),
            "HF_HOME": str(home / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "OMP_NUM_THREADS": "2",
            "PYTHONUTF8": "1",
        }

    def command(self, *arguments: str | bytes | Path) -> list[str | bytes | Path]:
        return [sys.executable, "-m", "clipsearch", *arguments]

    def __call__(
        self,
        *arguments: str | bytes | Path,
        cwd: Path,
        env: dict[str, str] | None = None,
        input: bytes = b"",
        prefix: tuple[str, ...] = (),
        timeout: float = 300,
    ) -> Ran:
        done = subprocess.run(
            [*prefix, *self.command(*arguments)],
            cwd=cwd,
            env=self.env | (env or {}),
            input=input,
            capture_output=True,
            timeout=timeout,
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    def start(
        self,
        *arguments: str | bytes | Path,
        cwd: Path,
        unbuffered: str = "",
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        env = self.env | {"PYTHONUNBUFFERED": unbuffered}
        return subprocess.Popen([*prefix, *self.command(*arguments)], cwd=cwd, env=env, **pipes)


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    base = tmp_path_factory.mktemp("cli")
    home = base / "home"
    home.mkdir()
    return Cli(base / "cache", home)


@pytest.fixture(scope="session")
def indexed(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos/` (four photographs, one of them twice) and `index/`, their library. Do not change it."""
    import skimage

    folder = tmp_path_factory.mktemp("indexed")
    photos = folder / "photos"
    photos.mkdir()
    for name in SKIMAGE:
        shutil.copy(Path(skimage.__file__).parent / "data" / name, photos)
    shutil.copy(photos / "coffee.png", photos / "coffee-again.png")
    ran = cli("index", "photos", "--model", "builtin", cwd=folder)
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture
def copied(indexed: Path, tmp_path: Path) -> Path:
    """A library of one's own, as `indexed`; its files are where `indexed` has them."""
    shutil.copytree(indexed / "index", tmp_path / "index")
    return tmp_path


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need a GPU where there is none."""
    for_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not for_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        config.hook.pytest_deselected(items=for_gpu)
        items[:] = [item for item in items if item not in for_gpu]
