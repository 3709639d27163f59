"""From prompts to prototypes: that of a label is the mean of the unit vectors of all its prompts, normalised again.

That is open_clip's zero-shot classifier, and the CLIP paper's (arXiv:2103.00020, section 3.1.4). A few prompts are
cached as texts, which queries share. Many (1,000 labels in 80 templates are 80,000) would push everything else out of
the cache and take 160 MB; of those only the prototypes are cached, 2 kB per label at 512 dimensions.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify.labels import Label
from clipsearch.classify.templates import prompts_of
from clipsearch.types import Notice

if TYPE_CHECKING:
    from clipsearch.search.embed import Embedder

CACHED = 256
"""Prompts that are cached as texts, at most."""

BLOCK = 512
"""Prompts, about, that are embedded at a time: stopping loses no more."""

TOLD = 3
"""Prompts that are too long and get a notice of their own, at most."""

_RECIPE = 1
"""Goes up with any change of how a prototype is made from its prompts."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a long classification: encoded prompts or images, of those to encode."""

    stage: Literal["prompts", "pictures"]
    done: int
    total: int


Report = Callable[[Step], None]


def quiet(step: Step) -> None:
    """Ignores its argument."""


def prototypes(
    embedder: Embedder, labels: Sequence[Label], templates: Sequence[str], *, progress: Report = quiet
) -> NDArray[np.float32]:
    """Unit rows of shape (len(labels), dim). Notices of the embedder name prompts that are too long."""
    groups = [prompts_of(label, templates) for label in labels]
    if sum(map(len, groups)) <= CACHED:
        return means(embedder.texts([text for group in groups for text in group]), groups)
    info, cache = embedder.row.info, embedder.cache
    # Besides the encoder, a prototype depends on all its prompts in their order.
    keys = [hashlib.sha256(json.dumps([_RECIPE, *group]).encode()).digest() for group in groups]
    known = cache.prototypes(info.fingerprint, set(keys), dim=info.dim)
    missing = {key: group for key, group in zip(keys, groups, strict=True) if key not in known}
    before = len(embedder.notices)
    done, total = 0, sum(map(len, missing.values()))
    for block in _blocks(missing):
        told = len(embedder.notices)
        vectors = embedder.texts([text for key in block for text in missing[key]], keep=False)
        made = dict(zip(block, means(vectors, [missing[key] for key in block]), strict=True))
        known |= made
        if len(embedder.notices) == told:  # A truncated prompt is announced each time, hence never cached.
            cache.put_prototypes(info.fingerprint, made, now=int(time.time()))
        done += len(vectors)
        progress(Step("prompts", done, total))
    if missing:
        cache.trim_prototypes(info.fingerprint)
    more = len(embedder.notices) - before - TOLD
    if more > 0:
        text = f"{more:,} more prompts are too long for {info.spec}"
        embedder.notices[before + TOLD :] = [Notice("truncated", text)]
    return np.stack([known[key] for key in keys])


def _blocks(missing: dict[bytes, list[str]]) -> list[list[bytes]]:
    blocks: list[list[bytes]] = []
    room = 0
    for key, group in missing.items():
        if room < len(group):
            blocks.append([])
            room = BLOCK
        blocks[-1].append(key)
        room -= len(group)
    return blocks


def means(vectors: NDArray[np.float32], groups: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """The normalised mean of each group's rows; they follow one another in `vectors`."""
    rows = np.empty((len(groups), vectors.shape[1]), np.float32)
    ends = np.cumsum([len(group) for group in groups])
    for row, part in zip(rows, np.split(vectors, ends[:-1]), strict=True):
        mean = part.astype(np.float64).mean(axis=0)
        row[:] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return rows
