"""Classifications, index runs and what a library contains, as dicts for JSON; `export.json` has those of queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipsearch.export.json import SCHEMA_VERSION, clean, fields, path_keys, problems_json

if TYPE_CHECKING:
    from clipsearch.classify.classifier import Classifier, Fit
    from clipsearch.classify.results import Classification, ClassifyResult, Prediction
    from clipsearch.indexing.results import IndexReport
    from clipsearch.indexing.rules import ScanOptions
    from clipsearch.library.results import EncoderStatus, LibraryInfo


def classify_json(result: ClassifyResult, classifier: Classifier | None = None) -> dict[str, Any]:
    value: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": result.model.spec,
        "is_clip": result.model.is_clip,
        "results": [item_json(item) for item in result.results],
        "notices": [clean(text) for text in result.notices],
    }
    if result.threshold is not None:
        value["threshold"] = result.threshold
    if result.nearest:
        value["nearest"] = {
            str(clean(label)): [{**path_keys(hit.path), "id": hit.id, "score": hit.score} for hit in hits]
            for label, hits in result.nearest.items()
        }
    if classifier is not None and classifier.fit is not None:
        value["fit"] = fit_json(classifier, classifier.fit)
    return value


def fit_json(classifier: Classifier, fit: Fit) -> dict[str, Any]:
    from clipsearch.classify.store import fit_facts

    named = zip(classifier.labels, fit.counts, strict=True)
    counts = {str(clean(label.name)): count for label, count in named if count}
    return {"counts": counts, **fit_facts(fit)}


def item_json(item: Classification) -> dict[str, Any]:
    value: dict[str, Any] = dict(path_keys(item.path))
    if item.id is not None:
        value["id"] = item.id
    if len(item.paths) > 1:
        value["paths"] = [path_keys(path)["path"] for path in item.paths]
    if item.offline:
        value["offline"] = True
    if item.unknown:
        value["unknown"] = True
    if item.margin is not None:
        value["margin"] = item.margin
    value["predictions"] = [_prediction_json(p) for p in item.predictions]
    if item.reason is not None:
        value["reason"] = clean(item.reason)
    return value


def _prediction_json(prediction: Prediction) -> dict[str, Any]:
    value = {"label": clean(prediction.label), "probability": prediction.probability, "score": prediction.score}
    return value if prediction.prompt is None else value | {"prompt": clean(prediction.prompt)}


def index_json(report: IndexReport) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        **path_keys(report.library, name="library"),
        "model": report.model.spec if report.model else None,
        **fields(report, "indexed unchanged moved copied restored missing offline excluded unsupported"),
        "unreachable": [{**path_keys(folder.path), **fields(folder, "files why")} for folder in report.unreachable],
        "unsupported_reasons": [
            {"reason": clean(why), "files": files} for why, files in report.unsupported_reasons.items()
        ],
        "ignored": dict(report.ignored),
        "left_out": {why: {"folders": count.folders, "files": count.files} for why, count in report.left_out.items()},
        "placeholders": problems_json(report.placeholders),
        "without_images": [path_keys(folder) for folder in report.without_images],
        "failed": problems_json(report.failed),
        "failed_before": report.failed_before,
        "changing": problems_json(report.changing),
        "partial": problems_json(report.partial),
        **fields(report, "encoded pictures corrected reread facts deleted tiles opened filling filling_left"),
        **fields(report, "switched interrupted dry_run published seconds"),
        "notices": [clean(text) for text in report.notices],
    }


def info_json(info: LibraryInfo) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "catalog_version": info.schema_version,
        **path_keys(info.path),
        **fields(info, "library_id contents files"),
        "roots": [{**path_keys(root), **_scan_json(info.scans.get(root))} for root in info.roots],
        "encoders": [_status_json(status) for status in info.encoders],
        **fields(info, "catalog_bytes last_run fallback tiles"),
    }


SCAN = "hidden follow_symlinks all_files default_excludes ignore_files exclude_style"


def _scan_json(options: ScanOptions | None) -> dict[str, Any]:
    """The scan options of a root; nothing for a named file."""
    return {} if options is None else {"exclude": [clean(p) for p in options.exclude], **fields(options, SCAN)}


def _status_json(status: EncoderStatus) -> dict[str, Any]:
    info = status.info
    about = fields(info, "spec fingerprint dim logit_scale logit_bias")
    about["preprocess"] = fields(info.preprocess, "size resize interpolation mean std crop fill")
    about |= fields(info, "is_clip template")
    # Without "int8", hundreds of numbers that nobody reads.
    about["details"] = {key: value for key, value in info.details.items() if key != "int8"}
    return {"info": about, **fields(status, "role vectors owed engine snapshot_bytes tail snapshot_details")}
