"""What `Library.index` does: one index run, and what queries need after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import is_prepared_as_today
from clipsearch.encoders.specs import parse_spec
from clipsearch.errors import ClipsearchError
from clipsearch.files import PathLike, absolute
from clipsearch.indexing import run as indexing
from clipsearch.indexing.results import IndexReport, Progress
from clipsearch.library.access import Access
from clipsearch.library.int8 import due_again, mentioning
from clipsearch.library.models import Models
from clipsearch.search.embed import Embedder
from clipsearch.types import Notice, Precision

OUTDATED = (
    "images are prepared better now than when this library was made; new ones already are, and indexing with "
    '`model="{spec}"` encodes all of them again'
)

BASELINE_PAYS_S = 30.0
"""After a run this long, the seconds that it takes to embed the everyday prompts do not matter."""


def index(
    access: Access,
    models: Models,
    paths: Iterable[PathLike],
    *,
    model: str | None,
    precision: Precision | None,
    run: indexing.RunOptions | None,
    wait: bool,
    dry_run: bool,
    progress: Callable[[Progress], None] | None,
    notify: Callable[[str], None],
    stop: Callable[[], bool],
) -> IndexReport:
    """See `Library.index`, which raises the same."""
    options = run or indexing.RunOptions()
    wanted = [absolute(p) for p in paths]
    if dry_run:
        with access.reader_or_empty() as catalog:
            # A run without `model` would add embeddings of this encoder.
            target = catalog.building() or catalog.active()
            return indexing.dry_run(catalog, wanted, options, encoder=target)
    with access.writer(wait=wait, stop=stop) as catalog:
        if model is not None or precision is not None:
            indexing.check_paths(catalog, wanted, options)  # A refused run must not start a switch.
        int8 = parse_spec(model).int8 if model is not None else due_again(catalog, wanted, options.given, stop)
        if int8 or precision is not None:
            row = models.to_fill_in(catalog, model, precision, wanted, options.given, notify=notify, stop=stop)
        else:
            row = models.to_fill(catalog, model)
        work = indexing.IndexRun(
            catalog,
            lambda: models.of(row),
            row,
            options,
            device=models.options.device,
            progress=progress if precision else mentioning(catalog, row.info, models.options, progress, notify),
            stop=stop,
        )
        report = work.run(wanted)
        if not report.interrupted and (report.encoded or report.missing):
            report = _prepare_queries(catalog, models, row, report)
        if not is_prepared_as_today(row.info.details):
            report = _with_notice(report, OUTDATED.format(spec=row.info.spec))
        return report


def _prepare_queries(catalog: Catalog, models: Models, row: EncoderRow, report: IndexReport) -> IndexReport:
    """Do now what the first query would have to wait for. A failure here does not fail the finished run."""
    try:
        if report.encoded:
            models.of(row).convert()
        _measure_baseline(catalog, models, row, always=report.encoded > 0 and report.seconds > BASELINE_PAYS_S)
    except ClipsearchError as exc:
        return _with_notice(report, f"queries are not prepared yet: {exc}")
    return report


def _measure_baseline(catalog: Catalog, models: Models, row: EncoderRow, *, always: bool) -> None:
    """Measure the baseline of queries; unless `always`, only where one exists and its images have changed."""
    from clipsearch.search import baselines  # A run that finds nothing new does without.

    with contextlib.closing(QueryCache(catalog.folder)) as cache:
        if always or baselines.exists(row, cache):
            baselines.learn(catalog, row, cache, Embedder(row, lambda: models.of(row), cache).texts)


def _with_notice(report: IndexReport, text: str) -> IndexReport:
    return replace(report, notices=(*report.notices, Notice("advice", text)))
