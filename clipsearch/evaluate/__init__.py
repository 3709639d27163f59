"""Measures encoders and search engines on one's own images.

    for one in classify(folder_per_class("flowers"), models=["ViT-B/32", "RN50"]):
        print(one.model, one.top1)

`classify`, `retrieve` and `find_again` compare encoders, `measure_relevance` what they return as relevant or unknown,
`measure_engines` the engines that search a library. They use the vectors of a library and store those that they compute
(`store`), so a second run encodes nothing. They return frozen dataclasses with everything that a plot needs
(`results`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.evaluate.alterations import ALTERATIONS as ALTERATIONS
    from clipsearch.evaluate.alterations import Alteration as Alteration
    from clipsearch.evaluate.captions import read_captions as read_captions
    from clipsearch.evaluate.classification import classify as classify
    from clipsearch.evaluate.copies import find_again as find_again
    from clipsearch.evaluate.copies import library_images as library_images
    from clipsearch.evaluate.datasets import Captioned as Captioned
    from clipsearch.evaluate.datasets import LabelledImages as LabelledImages
    from clipsearch.evaluate.datasets import folder_per_class as folder_per_class
    from clipsearch.evaluate.encode import Workplace as Workplace
    from clipsearch.evaluate.engines import measure_engines as measure_engines
    from clipsearch.evaluate.relevance import forget_fits as forget_fits
    from clipsearch.evaluate.relevance import measure_relevance as measure_relevance
    from clipsearch.evaluate.relevance import store_fit as store_fit
    from clipsearch.evaluate.results import AlterationRecall as AlterationRecall
    from clipsearch.evaluate.results import ClassificationScores as ClassificationScores
    from clipsearch.evaluate.results import Direction as Direction
    from clipsearch.evaluate.results import EngineScores as EngineScores
    from clipsearch.evaluate.results import Guess as Guess
    from clipsearch.evaluate.results import LabelRelevance as LabelRelevance
    from clipsearch.evaluate.results import Lost as Lost
    from clipsearch.evaluate.results import Missed as Missed
    from clipsearch.evaluate.results import RelevanceFigures as RelevanceFigures
    from clipsearch.evaluate.results import RelevanceFit as RelevanceFit
    from clipsearch.evaluate.results import RelevanceScores as RelevanceScores
    from clipsearch.evaluate.results import RetrievalScores as RetrievalScores
    from clipsearch.evaluate.results import SelfScores as SelfScores
    from clipsearch.evaluate.retrieval import retrieve as retrieve

_NAMES = {
    "alterations": ("ALTERATIONS", "Alteration"),
    "captions": ("read_captions",),
    "classification": ("classify",),
    "copies": ("find_again", "library_images"),
    "datasets": ("Captioned", "LabelledImages", "folder_per_class"),
    "encode": ("Workplace",),
    "engines": ("measure_engines",),
    "relevance": ("forget_fits", "measure_relevance", "store_fit"),
    "results": (
        *("AlterationRecall", "ClassificationScores", "Direction", "EngineScores", "Guess", "LabelRelevance"),
        *("Lost", "Missed", "RelevanceFigures", "RelevanceFit", "RelevanceScores", "RetrievalScores", "SelfScores"),
    ),
    "retrieval": ("retrieve",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the public name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"clipsearch.evaluate.{_HOMES[name]}"), name)
