"""Find images by describing them: CLIP embeddings, a FAISS inner-product index, everything stored in SQLite.

from clipsearch import Library

with Library.create("index") as library:
    library.index(["photos"])
    for hit in library.query("a dog on a beach"):
        print(hit.score, hit.path)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.classify.labels import Label as Label
    from clipsearch.classify.results import Classification as Classification
    from clipsearch.classify.results import Prediction as Prediction
    from clipsearch.errors import ClipsearchError as ClipsearchError
    from clipsearch.indexing.results import IndexReport as IndexReport
    from clipsearch.library.library import Library as Library
    from clipsearch.types import Hit as Hit
    from clipsearch.types import QueryResult as QueryResult

_HOMES = {
    "ClipsearchError": "errors",
    "Classification": "classify.results",
    "Hit": "types",
    "IndexReport": "indexing.results",
    "Label": "classify.labels",
    "Library": "library.library",
    "Prediction": "classify.results",
    "QueryResult": "types",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the public name stands for
    if name not in _HOMES:
        raise AttributeError(f"module 'clipsearch' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"clipsearch.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
