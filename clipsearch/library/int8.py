"""8-bit encoders for a library: calibrated on a sample of its own images, and compared with full precision there."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clipsearch.catalog.catalog import Catalog
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.devices import has_vnni, is_cpu
from clipsearch.encoders.load import refuse_int8
from clipsearch.encoders.onnx.quantisation import may_have_int8, quantised_info, taken_apart
from clipsearch.errors import ImageError, UsageError
from clipsearch.images import decode
from clipsearch.images.requests import Steps
from clipsearch.images.sniff import IMAGE_SUFFIXES
from clipsearch.images.workers import shared
from clipsearch.indexing.results import Progress
from clipsearch.indexing.roots import GivenOptions, Roots
from clipsearch.indexing.rules import Rules
from clipsearch.indexing.scanner import Walk
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE = 192
"""Images that are used in all."""
CALIBRATED_ON = 64
"""Images of them that set the rounding; the agreement is measured on the others. Fewer are too small a sample of the
layers' inputs, and of nearest neighbours: of 16 images, two random top 10 agree in 62 % (10 / 16)."""
NEAREST = 10
WORDS = 100
"""Prompts whose nearest images are compared."""
LOW = 0.8
"""An agreement below this is called low. Measured: .9 and more on trained models of several sizes."""
MENTIONED = "int8_mentioned"
MENTIONED_FROM = 200
"""Images to encode in a run, from which on the advantage of 8 bits is mentioned."""
MOST_BYTES = 64 * 2**20
BATCH = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an 8-bit encoder's vectors agree with those of full precision, on images of the library.

    cosine, lowest: mean and lowest between the two vectors of an image. words, likeness: share, 0 … 1, that the ten
    images nearest to a prompt, and to another image, have in common; None where there are too few images.
    """

    pictures: int
    calibrated_on: int
    cosine: float
    lowest: float
    words: float | None
    likeness: float | None

    def __str__(self) -> str:
        text = f"on {_images(self.pictures)} of yours, the cosine to full precision is {self.cosine:.4f}"
        text += f" (lowest {self.lowest:.4f})"
        if self.words is not None and self.likeness is not None:
            text += f"; the top {NEAREST} agree in {100 * self.words:.0f} % for text queries"
            text += f" and in {100 * self.likeness:.0f} % for image queries"
        return text

    def as_details(self) -> dict[str, float | None]:
        """As the catalog keeps it with the encoder."""
        return {
            "pictures": self.pictures,
            "calibrated_on": self.calibrated_on,
            "cosine": self.cosine,
            "lowest": self.lowest,
            "words": self.words,
            "likeness": self.likeness,
        }

    @property
    def advice(self) -> str | None:
        """What is wrong with it, if anything."""
        if self.calibrated_on < CALIBRATED_ON:
            few = f"int8 was calibrated on {_images(self.calibrated_on)} only"
            return f"{few}; the first run with {CALIBRATED_ON} calibrates it again"
        if self.words is not None and min(self.words, self.likeness or 0.0) < LOW:
            return 'this agreement is low; indexing with `precision="fp32"` goes back to full precision'
        return None


def eight_bit(
    catalog: Catalog,
    base: Encoder,
    paths: Sequence[bytes],
    given: GivenOptions,
    *,
    load: Callable[[EncoderInfo], Encoder],
    notify: Callable[[str], None],
    stop: Callable[[], bool],
) -> EncoderInfo | None:
    """`base` in 8 bits: as the catalog has it, or calibrated now on images of `paths` and of the library.

    A calibration on fewer than CALIBRATED_ON images is repeated once there are as many. `notify` receives how well it
    agrees. None where `stop()` ended it. Raises UsageError without an image, and where the encoder has no
    such form.
    """
    known = _known(catalog, base.info)
    if known is not None and not (_is_provisional(known) and _is_enough(candidates(catalog, paths, given, stop))):
        return known
    refuse_int8(base)
    notify(f"calibrating {base.info.spec} for 8 bits on up to {SAMPLE} images")
    pixels = sample(candidates(catalog, paths, given, stop), base, stop)
    if stop():
        return None
    if known is not None and len(pixels) < CALIBRATED_ON:
        return known
    if not len(pixels):
        raise UsageError('`precision="int8"` is calibrated on your own images, and none can be read yet')
    info = base.quantised(pixels[:CALIBRATED_ON])
    others = pixels[CALIBRATED_ON:]
    compared = others if len(others) >= CALIBRATED_ON else pixels
    found = agreement(base, load(info), compared, calibrated_on=min(len(pixels), CALIBRATED_ON), stop=stop)
    if found is None:
        return None
    if known is not None:
        notify("int8 was calibrated on too few images; now it is calibrated again, and every image encoded again")
    notify(f"int8: {found}")
    if found.advice:
        notify(found.advice)
    return replace(info, details={**info.details, "agreement": found.as_details()})


def due_again(catalog: Catalog, paths: Sequence[bytes], given: GivenOptions, stop: Callable[[], bool]) -> bool:
    """Whether the library is in 8 bits that were calibrated on too few images, and a run over `paths` has enough."""
    row = catalog.building() or catalog.active()
    return row is not None and _is_provisional(row.info) and _is_enough(candidates(catalog, paths, given, stop))


def _known(catalog: Catalog, base: EncoderInfo) -> EncoderInfo | None:
    """The newest 8-bit form of `base` in the catalog."""
    for row in reversed(catalog.encoders()):
        origin, rounding = taken_apart(row.info)
        if rounding is not None and origin.fingerprint == base.fingerprint:
            known = quantised_info(base, rounding)
            return replace(known, details={**row.info.details, **known.details})
    return None


def _is_provisional(info: EncoderInfo) -> bool:
    """Whether an 8-bit encoder was calibrated on too few images."""
    agreement = info.details.get("agreement")
    return isinstance(agreement, dict) and agreement.get("calibrated_on", CALIBRATED_ON) < CALIBRATED_ON


def _is_enough(paths: Iterable[bytes]) -> bool:
    """Whether there are CALIBRATED_ON different paths, which may suffice; takes no more of them than needed."""
    different: set[bytes] = set()
    for path in paths:
        different.add(path)
        if len(different) >= CALIBRATED_ON:
            return True
    return False


def mentioning(
    catalog: Catalog,
    info: EncoderInfo,
    options: EncoderOptions,
    progress: Callable[[Progress], None] | None,
    notify: Callable[[str], None],
) -> Callable[[Progress], None] | None:
    """`progress`, which also suggests int8, once per library, where it would save much time."""
    if not may_have_int8(info) or catalog.meta(MENTIONED) is not None or not has_vnni():
        return progress
    said = False

    def told(at: Progress) -> None:
        nonlocal said
        if not said and at.stage == "encoding" and (at.total or 0) >= MENTIONED_FROM and is_cpu(options.device):
            said = True
            notify(
                "this processor encodes images two to three times as fast in 8 bits: indexing with "
                '`precision="int8"` first shows how well the results agree'
            )
            with catalog.transaction():
                catalog.set_meta(MENTIONED, "1")
        if progress is not None:
            progress(at)

    return told


def candidates(
    catalog: Catalog, paths: Sequence[bytes], given: GivenOptions, stop: Callable[[], bool]
) -> Iterator[bytes]:
    """Files that the library knows to be there, and where those are few, those that a run over `paths` would find."""
    known = [path for path, _ in catalog.files.in_state("present")]
    yield from known
    if len(known) >= SAMPLE:
        return
    own = os.fsencode(catalog.folder.absolute())
    about = os.stat(own)
    suffixes = IMAGE_SUFFIXES
    for area in Roots(catalog).plan(paths, given, suffixes=suffixes, own=own):
        if area.root.is_file:
            yield area.start
            continue
        rules = Rules(area.root.path, area.root.options)
        walk = Walk(area.start, rules, suffixes, area.skip, (about.st_dev, about.st_ino), stop)
        with contextlib.suppress(OSError):
            yield from (candidate.path for candidate in walk)


def sample(paths: Iterable[bytes], encoder: Encoder, stop: Callable[[], bool]) -> NDArray[np.uint8]:
    """Prepared pixels (n, 3, S, S) of up to SAMPLE different images, chosen and ordered by their names alone."""
    import numpy as np

    chosen = heapq.nsmallest(2 * SAMPLE, set(paths), key=lambda path: hashlib.sha256(path).digest())
    pixels: dict[bytes, NDArray[np.uint8]] = {}

    def prepare(path: bytes) -> Steps[tuple[bytes, NDArray[np.uint8]] | None]:
        with contextlib.suppress(OSError, ImageError, MemoryError):
            if os.path.getsize(path) <= MOST_BYTES and (file := (yield from decode.read(path))).regular:
                image = yield from decode.image(preprocess=encoder.info.preprocess)
                found = image.decoded or (yield from image.pixels(encoder.info.preprocess))
                return file.digest, found.rows[0]
        return None

    with contextlib.closing(shared().run((functools.partial(prepare, path) for path in chosen), stop=stop)) as prepared:
        for found in prepared:
            if found is not None:
                pixels.setdefault(*found)
            if len(pixels) >= SAMPLE:
                break
    size = encoder.info.preprocess.size
    return np.stack(list(pixels.values())) if pixels else np.empty((0, 3, size, size), np.uint8)


def agreement(
    full: Encoder,
    rounded: Encoder,
    pixels: NDArray[np.uint8],
    *,
    calibrated_on: int,
    stop: Callable[[], bool] = lambda: False,
) -> Agreement | None:
    """Compare two encoders of one space on prepared pixels (n, 3, S, S). None where `stop()` ended it."""
    import numpy as np

    rows: list[list[NDArray[np.float32]]] = [[], []]
    for start in range(0, len(pixels), BATCH):
        if stop():
            return None
        for some, encoder in zip(rows, (full, rounded), strict=True):
            some.append(encoder.encode_images(pixels[start : start + BATCH]))
    exact, near = (np.concatenate(some) for some in rows)
    cosines = np.einsum("nd,nd->n", exact, near)
    words = likeness = None
    if len(pixels) >= CALIBRATED_ON:
        texts = full.encode_texts(prompts.everyday(WORDS))
        words = _shared(texts @ exact.T, texts @ near.T)
        alike, almost = exact @ exact.T, near @ near.T
        for scores in (alike, almost):
            np.fill_diagonal(scores, -np.inf)
        likeness = _shared(alike, almost)
    return Agreement(len(pixels), calibrated_on, float(cosines.mean()), float(cosines.min()), words, likeness)


def _shared(scores: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Share of the NEAREST best columns that the rows of two score matrices have in common, on average."""
    import numpy as np

    best, second = (np.argpartition(-s, NEAREST - 1, axis=1)[:, :NEAREST] for s in (scores, others))
    return float(np.mean([len(np.intersect1d(a, b)) / NEAREST for a, b in zip(best, second, strict=True)]))


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
