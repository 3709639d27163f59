"""What is measured: against known values, against definitions, and retrieval against torchmetrics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_reciprocal_rank,
)

from clipsearch.classify import calibration
from clipsearch.evaluate import metrics

CASES = 1000


def random_case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores (images, captions) of few levels, so that many tie, and the image of each caption."""
    images = int(rng.integers(1, 9))
    per_picture = rng.integers(1, 6, size=images)
    owner = rng.permutation(np.repeat(np.arange(images), per_picture))
    levels = int(rng.choice([1, 2, 3, 5, 1000]))
    return rng.integers(levels, size=(images, len(owner))) / np.float32(levels), owner


def settled(scores: np.ndarray, relevant: np.ndarray) -> torch.Tensor:
    """Scores without ties that keep the order, where what is not relevant comes first among equals.

    torchmetrics leaves the order of equal scores to the sort; this is the rule that `metrics` states.
    """
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], relevant[i], i))
    strict = np.empty(len(scores), np.float32)
    # All above zero: torchmetrics takes what scores zero or less for not found at all.
    strict[order] = np.linspace(2, 1, len(scores), dtype=np.float32)
    return torch.from_numpy(strict)


def test_retrieval_figures_are_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(5)
    asked = tied = several = 0
    for _ in range(CASES):
        scores, owner = random_case(rng)
        both = ((scores, owner[None, :] == np.arange(len(scores))[:, None]),)
        for table, relevant in (*both, (both[0][0].T, both[0][1].T)):
            ranks = metrics.relevant_ranks(table, [np.flatnonzero(row) for row in relevant])
            first = np.array([own[0] for own in ranks])
            theirs = [(settled(s, r), torch.from_numpy(r)) for s, r in zip(table, relevant, strict=True)]
            for k in (1, 5, 10):
                hits = [float(retrieval_hit_rate(s, r, top_k=k)) for s, r in theirs]
                assert metrics.recall_at_k(first, k) == pytest.approx(np.mean(hits), abs=1e-6)
            found = metrics.average_precisions(ranks)
            assert found == pytest.approx([float(retrieval_average_precision(s, r)) for s, r in theirs], abs=1e-6)
            assert 1 / first == pytest.approx([float(retrieval_reciprocal_rank(s, r)) for s, r in theirs], abs=1e-6)
            assert metrics.median_rank(first) == np.median(first)
            asked += len(table)
            tied += sum(len(set(row)) < len(row) for row in table.tolist())
            several += int((relevant.sum(axis=1) > 1).sum())
    print(f"{CASES} cases, {asked} queries, {tied} with ties, {several} with several right answers")
    assert tied > asked / 3 and several > asked / 10


def test_an_encoder_that_tells_nothing_apart_finds_nothing_in_any_order() -> None:
    scores = np.full((1, 4), 0.5, np.float32)
    for place in range(4):
        assert metrics.relevant_ranks(scores, [np.array([place])])[0].tolist() == [4]
    assert metrics.relevant_ranks(scores, [np.array([0, 2])])[0].tolist() == [3, 4]


def test_accuracy_counts_what_is_among_the_first() -> None:
    ranked = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]])
    truth = np.array([0, 0, 0, 1])
    assert metrics.top_k_hits(ranked, truth, 1).tolist() == [True, False, False, False]
    assert metrics.mean(metrics.top_k_hits(ranked, truth, 2)) == 0.5
    right = metrics.top_k_hits(ranked, truth, 1)
    # Class 0 has one of three right, class 1 none of one, and class 2 no images.
    assert metrics.mean_per_class(right, truth) == pytest.approx(1 / 6)
    matrix = metrics.confusion_matrix(truth, ranked[:, 0], 3)
    assert matrix.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert np.trace(matrix) == right.sum()


def test_the_calibration_error_is_the_gap_between_the_bars_and_the_diagonal() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(size=500)
    correct = rng.uniform(size=500) < confidence**2
    bins = calibration.reliability_bins(confidence, correct, bins=10)
    assert bins.counts.sum() == 500 and len(bins.edges) == 11
    gap = np.nansum(bins.counts * np.abs(bins.confidence - bins.accuracy)) / 500
    assert calibration.expected_calibration_error(confidence, correct, bins=10) == pytest.approx(gap)
    assert calibration.expected_calibration_error(np.ones(4), np.array([True, False, False, True])) == 0.5
    empty = calibration.reliability_bins(np.array([0.95]), np.array([True]), bins=2)
    assert empty.counts.tolist() == [0, 1] and np.isnan(empty.accuracy[0]) and empty.accuracy[1] == 1
    # A bin is closed above: 0.5 of two bins belongs to the lower one.
    assert calibration.reliability_bins(np.array([0.5]), np.array([True]), bins=2).counts.tolist() == [1, 0]


def test_weights_count_items_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    values, truth = rng.uniform(size=30), rng.integers(4, size=30)
    times = rng.integers(0, 4, size=30)
    again, weights = np.repeat(np.arange(30), times), times.astype(np.float64)
    first = rng.integers(1, 9, size=30)
    right = values > 0.5
    for weighted, repeated in (
        (metrics.mean(values, weights), metrics.mean(values[again])),
        (metrics.mean_per_class(values, truth, weights=weights), metrics.mean_per_class(values[again], truth[again])),
        (metrics.recall_at_k(first, 3, weights=weights), metrics.recall_at_k(first[again], 3)),
        (metrics.median_rank(first, weights=weights), np.median(first[again])),
        (
            calibration.expected_calibration_error(values, right, weights=weights),
            calibration.expected_calibration_error(values[again], right[again]),
        ),
    ):
        assert weighted == pytest.approx(repeated)


def test_the_median_of_an_even_number_lies_between() -> None:
    for ranks in itertools.product(range(1, 5), repeat=4):
        assert metrics.median_rank(np.array(ranks)) == np.median(ranks)


def test_a_bootstrap_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(3).uniform(size=400) < 0.3
    estimate = metrics.bootstrap_mean(values)
    error = np.sqrt(estimate.value * (1 - estimate.value) / 400)
    assert estimate.value == values.mean()
    assert estimate.low == pytest.approx(estimate.value - 1.96 * error, abs=0.006)
    assert estimate.high == pytest.approx(estimate.value + 1.96 * error, abs=0.006)
    assert metrics.bootstrap_mean(values) == estimate, "another run gives another interval"


def test_captions_of_one_picture_are_no_independent_samples() -> None:
    values = np.repeat(np.random.default_rng(4).uniform(size=50) < 0.5, 5)
    alone = metrics.bootstrap_mean(values)
    grouped = metrics.bootstrap_mean(values, groups=np.repeat(np.arange(50), 5))
    assert grouped.value == alone.value
    # Five copies of each answer say no more than one: the interval is √5 as wide.
    width = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert width == pytest.approx(np.sqrt(5), rel=0.15)


def test_nothing_measured_is_not_a_number() -> None:
    nothing = np.empty(0)
    assert np.isnan(metrics.mean(nothing)) and np.isnan(metrics.median_rank(nothing))
    assert np.isnan(metrics.bootstrap_mean(nothing).low)
    assert calibration.expected_calibration_error(nothing, np.empty(0, bool)) == 0
