"""What `--relevant` returns, and what the strength of a hit means: `python -m benchmarks.relevance --photos DIR`.

The first table is of `benchmarks.relevant`. The second one is of libraries of other sizes and kinds: how many of the
right best hits are kept, how often queries for what is absent and random letters are answered, and how much of what is
returned is right. The last ones count right best hits by their strength. The constants of the strength were fitted on
one half of labels, groups and libraries; the other half is shown.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import relevant
from benchmarks.labelled import Rows, Trial, class_trials, drawing_trials, folder_trials, group_trials, photo_trials
from clipsearch.search import relevance
from clipsearch.search.evidence import CUTS

HELD_OUT = 1
"""The half that no constant of the strength was fitted on."""

ANSWERABLE = (0.5, 0.1, 0.9)
"""Shares of queries that have an answer in the library."""


@dataclass(frozen=True)
class Judged:
    """What one trial gives.

    right, mistaken: strengths of best hits, right and wrong ones, of queries that have an answer; absent, letters: of
    queries for absent things and of random letters. kept, answered, fooled: which queries of right, absent and letters
    have relevant images. precision: for each query that has an answer and relevant images, the share of these that are
    right; found: for each query that has an answer, whether any relevant image is right.
    """

    name: str
    right: NDArray[np.floating]
    mistaken: NDArray[np.floating]
    absent: NDArray[np.floating]
    letters: NDArray[np.floating]
    kept: Sequence[bool]
    answered: Sequence[bool]
    fooled: Sequence[bool]
    precision: Sequence[float]
    found: Sequence[bool]


def judge(trial: Trial) -> Judged:
    """Run the queries of a trial on its library."""
    library = relevant.Library(trial.pictures, trial.everyday)
    none = np.zeros(len(trial.pictures), bool)
    cuts = CUTS[trial.kind]

    def strengths(queries: Rows, asked: Sequence[relevant.Asked]) -> NDArray[np.floating]:
        best = [np.array([one.evidence.best], np.float32) for one in asked]
        values = [
            relevance.relevance(library.baseline, query, score, kind=trial.kind)[0]
            for query, score in zip(queries, best, strict=True)
        ]
        return np.asarray(values)

    present = [library.ask(q, right, trial.kind) for q, right in zip(trial.present, trial.answers, strict=True)]
    absent, letters = (
        [library.ask(query, none, trial.kind) for query in queries] for queries in (trial.absent, trial.salads)
    )
    is_right = np.array([one.right[one.scores.raw.argmax()] for one in present])
    sure = strengths(trial.present, present)
    returned = [one.returned(cuts) for one in present]
    return Judged(
        trial.name,
        sure[is_right],
        sure[~is_right],
        strengths(trial.absent, absent),
        strengths(trial.salads, letters),
        [one.answered(cuts) for one, right in zip(present, is_right, strict=True) if right],
        [one.answered(cuts) for one in absent],
        [one.answered(cuts) for one in letters],
        [float(one.right[some].mean()) for one, some in zip(present, returned, strict=True) if some.any()],
        [bool(one.right[some].any()) for one, some in zip(present, returned, strict=True)],
    )


def report(judged: Sequence[Judged]) -> Iterator[str]:
    """A row for each library; those of one name are taken together."""
    heads = ("library", "asked", "kept", "absent", "letters", "precision", "recall")
    yield "{:33}{:>6}{:>8}{:>8}{:>8}{:>10}{:>8}".format(*heads)
    for name in dict.fromkeys(one.name for one in judged):
        some = [one for one in judged if one.name == name]
        shares = []
        for part in ("kept", "answered", "fooled", "precision", "found"):
            values = [value for one in some for value in getattr(one, part)]
            shares.append(float(np.mean(values)) if values else 0.0)
        asked = sum(len(one.found) for one in some)
        yield "{:33}{:6}{:8.3f}{:8.3f}{:8.3f}{:10.3f}{:8.3f}".format(name, asked, *shares)


def meaning(judged: Sequence[Judged], name: str) -> Iterator[str]:
    """How many of the best hits in each bin of strength are right, by the share of queries that have an answer.

    All best hits count, also the wrong ones of queries that have an answer. The others are half absent things, half
    random letters, where there are any. Libraries of one name count as much as those of another.
    """
    yield f"share of right best hits by strength, {name}:"
    yield f"  {'':12}{'hits':>6}" + "".join(f"{f'{share:.0%} answerable':>18}" for share in ANSWERABLE)
    names = dict.fromkeys(one.name for one in judged)
    parts = ("right", "mistaken", "absent", "letters")
    pooled = [
        [np.concatenate([getattr(one, part) for one in judged if one.name == each]) for part in parts] for each in names
    ]
    for low, high in itertools.pairwise((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)):
        rows, hits = [], 0
        for strengths in pooled:
            inside = [(low < some) & (some <= high) for some in strengths]
            hits += sum(int(some.sum()) for some in inside)
            asked = max(1, len(inside[0]) + len(inside[1]))
            others = [some.mean() for some in inside[2:] if len(some)]
            rows.append((inside[0].sum() / asked, inside[1].sum() / asked, np.mean(others)))
        right, mistaken, absent = np.mean(rows, axis=0)
        cells = []
        for share in ANSWERABLE:
            total = share * (right + mistaken) + (1 - share) * absent
            cells.append(f"{share * right / total:18.2f}" if total > 0 else f"{'–':>18}")
        yield f"  {low:.1f} … {high:.1f}   {hits:6}{''.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, required=True, help="200 photographs, each named by what it shows")
    parser.add_argument("--unlike", type=Path, help="other images: a folder of folders, each named by a word for them")
    parser.add_argument("--largest", type=int, default=20_000, help="images of the largest library")
    options = parser.parse_args()
    photos = relevant.load_photos(options.photos)
    print("what --relevant returns:", *relevant.report(relevant.collections(photos)), sep="\n", flush=True)
    sizes = [size for size in (200, 2_000, 20_000, 100_000) if size <= options.largest]
    kinds: tuple[relevance.Kind, ...] = ("text", "picture", "mixed")
    makers = [
        photo_trials(photos.names, photos.images),
        *(group_trials(photos.names, photos.images, kind) for kind in kinds),
        class_trials(sizes),
        drawing_trials(),
        *([folder_trials(options.unlike)] if options.unlike else []),
    ]
    judged = [judge(trial) for maker in makers for trial in maker(HELD_OUT)]
    print("\nshares of queries answered, and what they return:", *report(judged), sep="\n", flush=True)
    for name in dict.fromkeys(one.name for one in judged):
        print(*meaning([one for one in judged if one.name == name], name), sep="\n")
    print(*meaning(judged, "all of them, equally weighted"), sep="\n")


if __name__ == "__main__":
    main()
