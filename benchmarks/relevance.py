"""What `--relevant` keeps and what it turns away, on labelled queries: `python -m benchmarks.relevance --photos DIR`.

Each library gets queries of three sorts: those that it answers (its pictures' labels), those that name what it does not
hold, and letter salads. Constants are chosen on one half of labels, sentences and libraries; the other is reported. A
row says, of the queries whose best hit is right, how many keep it, and how many of the others are answered all the
same. Beside it stands what fixed cuts on the score do: one for the encoder and one for both encoders, chosen as MARGIN
was (at most a fifth of absent things and a twentieth of salads answered in any library of the choosing half); and one
chosen with hindsight for this very row, which answers as many absent things as relevance does.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import relevant
from benchmarks.labelled import Rows, Trial, class_trials, drawing_trials, group_trials, photo_trials
from clipsearch.search import relevance
from clipsearch.search.background import SAMPLE

ABSENT, SALADS = 0.2, 0.05
"""Shares that may be answered of what is absent, and of letter salads."""

ANSWERABLE = (0.5, 0.1, 0.9)
"""Shares of queries that have an answer in the library."""


@dataclass(frozen=True)
class Judged:
    """The best hits' scores and relevance, of queries that have it right, absent things and salads; and all hits.

    mistaken: the relevance of best hits that are wrong, of queries that have an answer.
    """

    name: str
    encoder: str
    asked: int
    scores: tuple[NDArray[np.floating], ...]
    relevance: tuple[NDArray[np.floating], ...]
    answered: tuple[NDArray[np.bool_], ...]
    mistaken: NDArray[np.floating]
    returned: int
    returned_right: int
    found: int

    def kept(self, cut: float | None = None) -> tuple[float, ...]:
        """Shares that pass: right ones, absent things, salads. By `--relevant`, or by a cut on the score."""
        passing = self.answered if cut is None else tuple(some > cut for some in self.scores)
        return tuple(float(some.mean()) if len(some) else 0.0 for some in passing)


def judge(trial: Trial) -> Judged:
    """Every query's best hit in the trial's library, and what else is above the mark for those that have an answer."""
    count = len(trial.pictures)
    step = -(-count // SAMPLE)
    baseline = relevance.measure(trial.pictures[::step].astype(np.float64), trial.everyday, count=count, centred=False)

    def cut(query: NDArray[np.float32]) -> float:
        scores = trial.pictures @ query
        shown = scores if count <= relevant.SCANNED else baseline.sample.vectors @ query
        best = np.sort(np.partition(scores, -3)[-3:])[::-1]
        return relevance.evidence(baseline, query, shown, best, kind=trial.kind).cut()

    def ask(queries: Rows) -> tuple[Rows, Rows, NDArray[np.bool_]]:
        scores = queries @ trial.pictures.T
        top = scores.argmax(axis=1)
        best = scores[np.arange(len(queries)), top]
        sure = [
            relevance.relevance(baseline, q, s[None], kind=trial.kind)[0] for q, s in zip(queries, best, strict=True)
        ]
        return best, np.asarray(sure), best > np.array([cut(query) for query in queries])

    right = trial.answers[np.arange(len(trial.present)), (trial.present @ trial.pictures.T).argmax(axis=1)]
    best, sure, answered = ask(trial.present)
    returned = returned_right = found = 0
    for query, answers in zip(trial.present, trial.answers, strict=True):
        passing = trial.pictures @ query > cut(query)
        returned += int(passing.sum())
        returned_right += int((passing & answers).sum())
        found += bool((passing & answers).any())
    others = [ask(trial.absent), ask(trial.salads)]
    return Judged(
        trial.name,
        trial.encoder,
        len(trial.present),
        (best[right], *(scores for scores, _, _ in others)),
        (sure[right], *(values for _, values, _ in others)),
        (answered[right], *(passing for _, _, passing in others)),
        sure[~right],
        returned,
        returned_right,
        found,
    )


def pooled(judged: Sequence[Judged]) -> list[Judged]:
    """One for each name: the trials of a kind are taken together."""
    result = []
    for name in dict.fromkeys(one.name for one in judged):
        some = [one for one in judged if one.name == name]
        numbers = {
            key: sum(getattr(one, key) for one in some) for key in ("asked", "returned", "returned_right", "found")
        }
        scores = tuple(np.concatenate(parts) for parts in zip(*(one.scores for one in some), strict=True))
        sure = tuple(np.concatenate(parts) for parts in zip(*(one.relevance for one in some), strict=True))
        answered = tuple(np.concatenate(parts) for parts in zip(*(one.answered for one in some), strict=True))
        mistaken = np.concatenate([one.mistaken for one in some])
        result.append(replace(some[0], scores=scores, relevance=sure, answered=answered, mistaken=mistaken, **numbers))
    return result


def lowest_cut(judged: Sequence[Judged]) -> float:
    """The lowest score that answers no more than is allowed in any of them."""
    allowed = ((1, ABSENT), (2, SALADS))
    return max(np.quantile(one.scores[i], 1 - share) for one in judged for i, share in allowed if len(one.scores[i]))


def cut_with(judged: Sequence[Judged], answered: float) -> float:
    """The cut that answers this mean share of absent things, over all of them."""
    cuts = np.linspace(-1, 1, 2001)
    shares = np.array([np.mean([one.kept(cut)[1] for one in judged]) for cut in cuts])
    return float(cuts[np.argmax(shares <= answered)])


def report(chosen: Sequence[Judged], reported: Sequence[Judged]) -> Iterator[str]:
    """The table: a row for each library of the reporting half."""
    cuts = {
        name: lowest_cut([one for one in chosen if one.encoder == name]) for name in {one.encoder for one in chosen}
    }
    common = lowest_cut(chosen)
    yield f"chosen cuts: {', '.join(f'{name} {cut:.3f}' for name, cut in sorted(cuts.items()))}; for both {common:.3f}"
    yield "kept of the right ones / answered of absent things / of salads; precision and recall of what is returned"
    heads = ("library", "asked", "relevance", "cut by encoder", "cut for both", "hindsight", "precision", "recall")
    yield "{:33}{:>6}  {:18}{:18}{:18}{:10}{:>9}{:>8}".format(*heads)
    for one in reported:
        columns = [one.kept(), one.kept(cuts[one.encoder]), one.kept(common)]
        cells = "".join(" ".join(f"{share:.3f}" for share in shares).ljust(18) for shares in columns)
        hindsight = one.kept(float(np.quantile(one.scores[1], 1 - columns[0][1])))[0]
        precision, recall = one.returned_right / max(one.returned, 1), one.found / one.asked
        yield f"{one.name:33}{one.asked:6}  {cells}{hindsight:<10.3f}{precision:9.3f}{recall:8.3f}"
    for name in (*sorted(cuts), "every encoder"):
        some = [one for one in reported if one.encoder == name or name == "every encoder"]
        ours = np.mean([one.kept() for one in some], axis=0)
        cut = cut_with(some, ours[1])
        theirs = np.mean([one.kept(cut) for one in some], axis=0)
        texts = (" ".join(f"{share:.3f}" for share in shares) for shares in (ours, theirs))
        yield f"all of {name}, mean: relevance {next(texts)}; one cut with hindsight for all, {cut:.3f}: {next(texts)}"
    for name in (None, *(name for name in OWN if name in {one.name for one in reported})):
        yield from meaning(
            [one for one in reported if name in (None, one.name)], name or "all of them, equally weighted"
        )


OWN = ("200 photos", "photos, in general words", "like a photo", "20,000 made up", "drawings, no such background")
"""Libraries whose share of right hits is shown by itself."""


def meaning(judged: Sequence[Judged], name: str) -> Iterator[str]:
    """How many of the best hits in each bin of relevance are right, by the share of queries that have an answer.

    All best hits count, also the wrong ones of queries that have an answer. The others are half absent things, half
    random letters, where there are any.
    """
    yield f"share of right best hits by relevance, {name}:"
    yield f"  {'':12}{'hits':>6}" + "".join(f"{f'{share:.0%} answerable':>18}" for share in ANSWERABLE)
    for low, high in itertools.pairwise((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)):
        rows, hits = [], 0
        for one in judged:
            inside = [(low < some) & (some <= high) for some in (one.relevance[0], one.mistaken, *one.relevance[1:])]
            hits += sum(int(some.sum()) for some in inside)
            others = [some.mean() for some in inside[2:] if len(some)]
            asked = max(1, len(inside[0]) + len(inside[1]))
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
    parser.add_argument("--largest", type=int, default=100_000, help="pictures of the largest library")
    options = parser.parse_args()
    sizes = [size for size in (200, 2_000, 20_000, 100_000) if size <= options.largest]
    photos = options.photos
    kinds: tuple[relevance.Kind, ...] = ("text", "picture", "mixed")
    alike = [group_trials(photos, kind) for kind in kinds]
    makers = [photo_trials(photos), *alike, class_trials(sizes), drawing_trials()]
    halves = [pooled([judge(trial) for maker in makers for trial in maker(half)]) for half in (0, 1)]
    for name, half in zip(("chosen on", "held out"), halves, strict=True):
        print(f"\n{name}:", *report(halves[0], half), sep="\n")
    print("\nwhat --relevant returns:", *relevant.main(photos), sep="\n")


if __name__ == "__main__":
    main()
