"""Labels for pictures, without a library: against transformers' pipeline, which is what its documentation shows."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from benchmarks import workers
from benchmarks.bench import Bench
from benchmarks.peers import LOOPS
from benchmarks.processes import Task, cpu, in_turn, ratio, run, wall
from benchmarks.results import Row, Target, seconds
from benchmarks.rows.indexing import costs

MODEL = "ViT-B-32-quickgelu"
"""OpenAI's ViT-B/32, whose shape the default CLIPConfig has."""

TEMPLATE = "This is a photo of {label}."
"""The pipeline's own."""


def zero_shot(bench: Bench) -> list[Row]:
    """Whole processes; towers are converted already, no label has been embedded before."""
    what = f"{bench.sizes.classified} photographs × {bench.sizes.labels} labels, against transformers' pipeline"
    target = Target("≥", 10)
    found = _pipeline(bench)
    if found is None:
        return [Row("zero-shot", what, target, missing="not installed: transformers")]
    python, theirs = found
    images = _pictures(bench)
    labels = bench.work / "labels.txt"
    labels.write_text("".join(f"{label}\n" for label in _labels(bench)))
    model = bench.model(MODEL)
    bench.small_library(model)
    cache = bench.work / "cache" / "cache.db"
    words = ["classify", images, "--labels", f"@{labels}", "--template", TEMPLATE, "-k", "1", "--json"]
    ours = bench.task(*words, *model.words, "--device", "cpu", before=lambda: cache.unlink(missing_ok=True))
    run(bench.task("classify", bench.two(), *words[2:], *model.words, "--device", "cpu"))
    pipeline = Task(lambda: [python, LOOPS, "pipeline", images, theirs, labels], bench.env, bench.work)
    mine, other = in_turn([ours, pipeline], 1, patience=0)
    return [
        Row(
            "zero-shot",
            what,
            target,
            seconds(wall(mine)),
            seconds(wall(other)),
            ratio(other, mine),
            label="classify: against transformers' pipeline",
            note=f"CPU seconds: {cpu(mine):.0f} against {cpu(other):.0f}",
            facts={"ours": costs(mine), "transformers": costs(other)},
        )
    ]


def _pictures(bench: Bench) -> Path:
    """The first small pictures, as many as are classified."""
    folder = bench.fresh("pictures/zero-shot")
    for path in sorted(bench.pictures("small").rglob("*.jpg"))[: bench.sizes.classified]:
        shutil.copy(path, folder)
    return folder


def _labels(bench: Bench) -> list[str]:
    """Names of ImageNet's classes, spread over all of them: words of everyday length."""
    from clipsearch.encoders import prompts

    before, after = prompts.TEMPLATE.split("{label}")
    return [text.removeprefix(before).removesuffix(after) for text in prompts.everyday(bench.sizes.labels)]


def _pipeline(bench: Bench) -> tuple[Path, Path] | None:
    """A Python that has transformers, and a model of its format: those of the peers, else ours and random weights."""
    peers = bench.config.peers
    if peers is not None:
        python, model = peers / "venv-torch" / "bin" / "python", peers / "weights" / "hf"
        if python.exists() and model.exists():
            return python.absolute(), model.absolute()
    if importlib.util.find_spec("transformers") is None:
        return None
    model = bench.work / "transformers"
    if not (model / "tokenizer_config.json").exists():
        bench.say("making random weights in transformers' format")
        workers.once("weights:make_transformers", env=bench.env, folder=model, small=bench.config.quick)
    return Path(sys.executable), model
