"""Encoding and decoding alone, without the program around them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import machine
from benchmarks.bench import BUILTIN, Bench, Model
from benchmarks.results import Row, Target
from benchmarks.workers import Round, Worker, once, rounds_in_turn

LIBRARIES = ("torch", "numpy", "onnxruntime")
ROUNDS = 5


def encode(bench: Bench) -> list[Row]:
    """Our encoder against open_clip's module in torch, and against what a matrix product reaches on this machine."""
    model, count, sizes = bench.model("ViT-B-32"), bench.sizes.encoded, bench.sizes
    library = bench.small_library(model)
    with ExitStack() as stack:

        def start(task: str, **arguments: object) -> Worker:
            return stack.enter_context(Worker(task, env=bench.env, **arguments))

        workers = [
            start("encode:ours", library=library, count=count),
            start("encode:reference", checkpoint=model.checkpoint, arch=model.arch, count=count),
            *(start("limits:gemm", library=name, size=sizes.gemm, times=8) for name in LIBRARIES),
        ]
        ours, torch, *products = rounds_in_turn(workers, min(ROUNDS, 2 * sizes.few))
    rate, torch_rate = (count / median(found, "wall_s") for found in (ours, torch))
    gflops = {name: median(found, "gflops") for name, found in zip(LIBRARIES, products, strict=True)}
    best = max(gflops, key=lambda name: gflops[name])
    needed = torch[0]["gflop_needed"]
    reached = [
        needed * count / mine["wall_s"] / product["gflops"]
        for mine, product in zip(ours, products[LIBRARIES.index(best)], strict=True)
    ]
    what = f"encode only, {model.name}, batches of 8, fp32"
    facts = {"runtime": ours[0]["runtime"], "gflops": gflops, "gflop": torch[0]["gflop"], "gflop_needed": needed}
    target = 1.9 if machine.has_flag("avx512f") else 1.1
    return [
        Row(
            "encode",
            f"{what}, against the same model in torch",
            Target("≥", target),
            f"{rate:.1f} images/s",
            f"{torch_rate:.1f} images/s",
            paired(torch, ours),
            label="encode: against torch",
            note=f"ours runs in {ours[0]['runtime']}",
            facts=facts,
        ),
        Row(
            "encode",
            f"{what}, against the machine's best GEMM of {sizes.gemm}³ ({best})",
            Target("≥", 0.7, "≥ 0.70×, aim 0.85×"),
            f"{rate * needed:.0f} GF/s",
            f"{gflops[best]:.0f} GF/s",
            statistics.median(reached),
            label="encode: against the best GEMM",
            note=f"{needed:.2f} GFLOP a picture are needed, of {torch[0]['gflop']:.2f} that torch computes",
            facts=facts,
        ),
    ]


def int8(bench: Bench) -> list[Row]:
    """The image tower in 8 bits against itself in 32."""
    target = Target("≥", 2.1 if machine.has_vnni() else 1.5)
    model, count = bench.model("ViT-B-32"), bench.sizes.encoded
    what = f"encode only, {model.name}, int8 against fp32"
    if not bench.has_int8:
        return [Row("int8", what, target, missing="not available: index has no --precision yet")]
    libraries = [bench.small_library(model), bench.small_library(model, precision="int8")]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker("encode:ours", env=bench.env, library=library, count=count))
            for library in libraries
        ]
        plain, small = rounds_in_turn(workers, min(ROUNDS, 2 * bench.sizes.few))
    rate, plain_rate = (f"{count / median(found, 'wall_s'):.1f} images/s" for found in (small, plain))
    return [Row("int8", what, target, rate, plain_rate, paired(plain, small), label="encode: int8 against fp32")]


def decode(bench: Bench) -> list[Row]:
    """Large JPEGs with EXIF turns and profiles: all pixels decoded, and our draft; and whether the vectors agree."""
    folder, model, sizes = bench.pictures("large"), bench.model("ViT-B-32"), bench.sizes
    library = bench.small_library(model)
    few = max(1, min(12, sizes.large))
    with Worker("pixels:decode", env=bench.env, library=library, folder=folder, count=few) as worker:
        rounds = [worker.round() for _ in range(sizes.few)]
    agreed, trained = (
        once("pixels:agreement", env=bench.env, library=some, folder=folder, count=sizes.large)
        for some in (library, bench.small_library(BUILTIN))
    )
    each = {way: median(rounds, way) / few for way in ("ours", "full", "plain", "coded")}
    width, height = sizes.large_pixels
    megapixels = f"{width * height / 1e6:.0f} MP"
    what = f"{megapixels} pictures, EXIF turns and Display P3"
    plain = statistics.median(found["plain"] / found["ours"] for found in rounds)
    return [
        Row(
            "decode",
            f"decode {what}: all pixels, against ours, one core",
            Target("≥", 4.5),
            f"{each['ours'] * 1000:.0f} CPU-ms",
            f"{each['full'] * 1000:.0f} CPU-ms",
            statistics.median(found["full"] / found["ours"] for found in rounds),
            label=f"decode {megapixels}: ours against all pixels",
            note=f"{plain:.1f}× against applying profile and turn at full size, as one would first write it; "
            f"of ours, {each['coded'] * 1000:.0f} ms undo the JPEG's coding",
            facts=each,
        ),
        cosine_row(
            "decode",
            f"the same, {agreed['pictures']} pictures: vectors of our pixels",
            agreed,
            1e-4,
            model,
            label=f"decode {megapixels}: cosine",
            note=f"two different pictures: {agreed['apart']:.4f}; the built-in encoder, whose weights are trained: "
            f"{trained['lowest']:.5f}, two different pictures {trained['apart']:.4f}",
        ),
    ]


def fidelity(bench: Bench) -> list[Row]:
    """Our vectors against open_clip's in torch, from the same pixels."""
    rows = []
    models = {model.name: model for model in (bench.model("ViT-B-32-256"), bench.tiny_model())}
    for model in models.values():
        found = once(
            "encode:fidelity",
            env=bench.env,
            library=bench.small_library(model),
            checkpoint=model.checkpoint,
            arch=model.arch,
            folder=bench.config.photos or bench.pictures("small"),
            count=bench.sizes.faithful,
        )
        what = f"fp32 vectors of {found['pictures']} pictures, {found['runtime']} against torch"
        label = f"ONNX against torch, {model.name.split()[0]}: cosine"
        rows.append(cosine_row("fidelity", what, found, 1e-5, model, label=label))
    return rows


def cosine_row(name: str, what: str, found: Round, allowed: float, model: Model, *, label: str, note: str = "") -> Row:
    """The ratio is that of what is lacking to 1, found over allowed."""
    lowest = found["lowest"]
    return Row(
        name,
        f"{what}, {model.name}",
        Target("≤", 1, f"≥ {1 - allowed:.{len(str(round(1 / allowed))) - 1}f}"),
        f"lowest cosine 1 − {1 - lowest:.1e}",
        "1",
        max(1 - lowest, 1e-12) / allowed,
        shown=f"1 − {1 - lowest:.1e}",
        label=label,
        note=note,
        facts={"lowest": lowest, "pictures": found["pictures"]},
    )


def median(rounds: Sequence[Round], key: str) -> float:
    return float(statistics.median(found[key] for found in rounds))


def paired(above: Sequence[Round], below: Sequence[Round]) -> float:
    """Median over the rounds of the one's time over the other's."""
    return float(statistics.median(a["wall_s"] / b["wall_s"] for a, b in zip(above, below, strict=True)))
