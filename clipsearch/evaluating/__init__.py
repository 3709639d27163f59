"""How good an encoder, and a library's search, is on one's own pictures.

    from clipsearch.evaluating import classify, folder_per_class

    for one in classify(folder_per_class("flowers"), models=["ViT-B/32", "RN50"]):
        print(one.model, one.top1)

`classify`, `retrieve` and `find_again` compare encoders, `measure_engines` the engines that search a library. They take
vectors that a library holds from there and keep what they compute (`store`); a second run encodes nothing. What they
return are frozen dataclasses with all that a plot needs (`results`).
"""

from __future__ import annotations

from clipsearch.evaluating.again import find_again, library_pictures
from clipsearch.evaluating.alterations import ALTERATIONS, Alteration
from clipsearch.evaluating.captions import read_captions
from clipsearch.evaluating.classification import classify
from clipsearch.evaluating.datasets import Captioned, LabelledPictures, folder_per_class
from clipsearch.evaluating.engines import ENGINES, measure_engines
from clipsearch.evaluating.results import (
    AlterationRecall,
    ClassificationScores,
    Direction,
    EngineScores,
    Guess,
    Lost,
    Missed,
    RetrievalScores,
    SelfScores,
)
from clipsearch.evaluating.retrieval import retrieve
from clipsearch.evaluating.sources import Workplace

__all__ = [
    "ALTERATIONS",
    "ENGINES",
    "Alteration",
    "AlterationRecall",
    "Captioned",
    "ClassificationScores",
    "Direction",
    "EngineScores",
    "Guess",
    "LabelledPictures",
    "Lost",
    "Missed",
    "RetrievalScores",
    "SelfScores",
    "Workplace",
    "classify",
    "find_again",
    "folder_per_class",
    "library_pictures",
    "measure_engines",
    "read_captions",
    "retrieve",
]
