"""The encoders of one library: which one answers, which one a run fills, and those that are loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.catalog import pending
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.load import load_encoder, reload_encoder
from clipsearch.encoders.onnx.quantisation import quantised_info, taken_apart
from clipsearch.encoders.specs import FALLBACK_NOTICE, parse_spec
from clipsearch.errors import EncoderError, ModelMismatchError, NoLibraryError, UsageError
from clipsearch.types import EncoderInfo, Notice

if TYPE_CHECKING:
    from clipsearch.indexing.roots import GivenOptions
    from clipsearch.library.int8 import Precision


class Models:
    """Encoders for the library in `folder`, each loaded once, as `options` say. Thread-safe where it loads."""

    def __init__(self, folder: Path, options: EncoderOptions) -> None:
        self.options = options
        self._folder = folder
        self._loaded: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def of(self, row: EncoderRow) -> Encoder:
        """The encoder of a row that the catalog holds."""
        with self._lock:
            encoder = self._loaded.get(row.info.fingerprint)
            if encoder is None:
                encoder = self._loaded[row.info.fingerprint] = reload_encoder(row.info, self.options)
            return encoder

    def keep(self, encoder: Encoder) -> None:
        """Take an encoder that was loaded elsewhere."""
        self._loaded[encoder.info.fingerprint] = encoder

    # What a run fills

    def to_fill(self, catalog: Catalog, model: str | None) -> EncoderRow:
        """The encoder that a run fills; records a wish for another one."""
        answering, filling = catalog.answering(), catalog.filling()
        if model is None:
            row = filling or answering
            if row is None:
                raise NoLibraryError(f"the library in {self._folder} is not complete; name its model: --model default")
            return row
        encoder = load_encoder(model, self.options)
        self.keep(encoder)
        return self._wish(catalog, encoder.info)

    def to_fill_in(
        self,
        catalog: Catalog,
        model: str | None,
        precision: Precision | None,
        paths: Sequence[bytes],
        given: GivenOptions,
        *,
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> EncoderRow:
        """The encoder that a run fills where the precision is named; calibrates it where it is a new one."""
        from clipsearch.library.int8 import eight_bit

        if model is None:
            target = self.to_fill(catalog, None)
            base = self.of(EncoderRow(0, taken_apart(target.info)[0]))
        else:
            base = load_encoder(parse_spec(model).base.name, self.options)
            self.keep(base)
        if precision == "fp32":
            if model is not None and parse_spec(model).int8:
                raise UsageError(f"--model {model} and --precision fp32 contradict each other; leave one out")
            return self._wish(catalog, base.info)
        info = eight_bit(
            catalog, base, paths, given, load=lambda info: self.of(EncoderRow(0, info)), say=say, stop=stop
        )
        if info is None:  # It was stopped: the run that follows will see that too.
            return self.to_fill(catalog, None)
        return self._wish(catalog, info)

    def _wish(self, catalog: Catalog, info: EncoderInfo) -> EncoderRow:
        """Record the encoder that shall answer: at once where nothing does yet, else once it is filled."""
        answering = catalog.answering()
        with catalog.transaction():
            row = catalog.add_encoder(info)
            if answering is not None and row.id != answering.id and _gives_way(catalog, answering, info):
                catalog.drop_encoder(answering.id)
                answering = None
            if answering is None:
                catalog.set_meta("encoder_id", str(row.id))
                catalog.set_meta("filling_id", None)
            elif row.id == answering.id:
                catalog.set_meta("filling_id", None)
                catalog.set_meta("fallback", None)  # It is no fallback any more, but what was asked for.
            else:
                catalog.set_meta("filling_id", str(row.id))
        return row

    # What answers

    def active(self, catalog: Catalog, model: str | None) -> tuple[EncoderRow, list[Notice]]:
        """The encoder that answers, and what the asker should know of it."""
        answering, filling = catalog.answering(), catalog.filling()
        if answering is None:
            raise NoLibraryError(f"the library in {self._folder} holds no pictures yet; clipsearch index FOLDER")
        if model is not None:
            return self._held(catalog, model), []
        notices: list[Notice] = []
        fallback = catalog.meta("fallback")
        if fallback is not None:
            better = 'indexing with `model="default"` switches to CLIP'
            notices.append(Notice("fallback", f"{FALLBACK_NOTICE} ({fallback}); {better}"))
        if filling is not None:
            lacks = pending.count_without_vectors(catalog, answering.id)
            if lacks:
                new = filling.info.spec
                notices.append(
                    Notice(
                        "switching", f"{answering.info.spec} is active until {new} is ready; it lacks {lacks} images"
                    )
                )
        return answering, notices

    def _held(self, catalog: Catalog, model: str) -> EncoderRow:
        """The row of an encoder that the library holds vectors of, by any name or place of its weights."""
        rows = catalog.encoders()
        spec = parse_spec(model)
        for row in (*filter(None, (catalog.answering(), catalog.filling())), *reversed(rows)):
            if row.info.spec in (model, spec.name):
                return row
        held = ", ".join(row.info.spec for row in rows)
        mismatch = (
            f"the library in {self._folder} holds no vectors of {model} (it holds {held}); clipsearch index --model"
        )
        if spec.kind != "builtin":
            try:
                encoder = load_encoder(spec.base.name, self.options)
            except EncoderError as exc:
                raise ModelMismatchError(f"{mismatch} {model} would add them, but: {exc}") from exc
            for row in rows:
                base, rounding = taken_apart(row.info)
                if base.fingerprint == encoder.info.fingerprint and (rounding is not None) == spec.int8:
                    if rounding is not None:  # The weights may have moved.
                        encoder = reload_encoder(quantised_info(encoder.info, rounding), self.options)
                    self._loaded[row.info.fingerprint] = encoder
                    return row
        raise ModelMismatchError(f"{mismatch} {model} adds them")


def _gives_way(catalog: Catalog, answering: EncoderRow, info: EncoderInfo) -> bool:
    """Whether an encoder without any vectors is the same model as `info` in the other precision: a new library's."""
    same = taken_apart(answering.info)[0].fingerprint == taken_apart(info)[0].fingerprint
    return same and not catalog.embeddings.count(answering.id)
