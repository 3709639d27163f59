"""The encoders of one library: the active one, the one that is being built, and those that are loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.load import fallback_notice, load_encoder, reload_encoder
from clipsearch.encoders.onnx.quantisation import quantised_info, taken_apart
from clipsearch.encoders.specs import parse_spec
from clipsearch.errors import EncoderError, ModelMismatchError, NoLibraryError, UsageError
from clipsearch.types import EncoderInfo, Notice, Precision

if TYPE_CHECKING:
    from clipsearch.indexing.roots import GivenOptions


class Models:
    """Encoders for the library in `folder`, each loaded once, as `options` say. Thread-safe where it loads.

    `serving` is for a server: encoders put the texts of several threads together, and no request for an encoder can
    look at a file or download a model that the library does not have.
    """

    def __init__(self, folder: Path, options: EncoderOptions, *, serving: bool = False) -> None:
        self.options = options
        self._folder = folder
        self._serving = serving
        self._loaded: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def of(self, row: EncoderRow) -> Encoder:
        """The encoder of a row that the catalog holds."""
        fingerprint = row.info.fingerprint
        if fingerprint not in self._loaded:  # Whoever wants a loaded one does not wait until another one is loaded.
            with self._lock:
                if fingerprint not in self._loaded:
                    # Its own fingerprint differs where images are decoded in another way than they were for this row.
                    self._loaded[fingerprint] = self._shareable(reload_encoder(row.info, self.options))
        return self._loaded[fingerprint]

    def keep(self, encoder: Encoder) -> Encoder:
        """Take an encoder that was loaded elsewhere; returns it as others will get it."""
        kept = self._loaded[encoder.info.fingerprint] = self._shareable(encoder)
        return kept

    def _shareable(self, encoder: Encoder) -> Encoder:
        if not self._serving:
            return encoder
        from clipsearch.encoders.batching import BatchingEncoder

        return BatchingEncoder(encoder)

    # The encoder that a run builds

    def to_fill(self, catalog: Catalog, model: str | None) -> EncoderRow:
        """The encoder that a run adds embeddings of; records the switch to `model`, where it is given."""
        if model is None:
            row = catalog.building() or catalog.active()
            if row is None:
                raise NoLibraryError(f"the library in {self._folder} is incomplete; name its model, as `model`")
            return row
        encoder = load_encoder(model, self.options)
        self.keep(encoder)
        return self._switch(catalog, encoder.info)

    def to_fill_in(
        self,
        catalog: Catalog,
        model: str | None,
        precision: Precision | None,
        paths: Sequence[bytes],
        given: GivenOptions,
        *,
        notify: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> EncoderRow:
        """`to_fill` where the precision is named; calibrates a new 8-bit encoder."""
        from clipsearch.library.int8 import eight_bit

        if model is None:
            target = self.to_fill(catalog, None)
            base = self.of(EncoderRow(0, taken_apart(target.info)[0]))
        else:
            base = load_encoder(parse_spec(model).base.name, self.options)
            self.keep(base)
        if precision == "fp32":
            if model is not None and parse_spec(model).int8:
                raise UsageError(f'`model="{model}"` and `precision="fp32"` contradict each other; leave one out')
            return self._switch(catalog, base.info)
        info = eight_bit(
            catalog, base, paths, given, load=lambda info: self.of(EncoderRow(0, info)), notify=notify, stop=stop
        )
        if info is None:  # It was stopped: the run that follows will see that too.
            return self.to_fill(catalog, None)
        return self._switch(catalog, info)

    def _switch(self, catalog: Catalog, info: EncoderInfo) -> EncoderRow:
        """Record the encoder that shall become active: at once where there is none yet, otherwise once it is built."""
        active = catalog.active()
        with catalog.transaction():
            row = catalog.add_encoder(info)
            if active is not None and row.id != active.id and _gives_way(catalog, active, info):
                catalog.drop_encoder(active.id)
                active = None
            if active is None:
                catalog.set_meta("encoder_id", str(row.id))
                catalog.set_meta("filling_id", None)
            elif row.id == active.id:
                catalog.set_meta("filling_id", None)
                catalog.set_meta("fallback", None)  # It has been chosen now.
            else:
                catalog.set_meta("filling_id", str(row.id))
        return row

    # The encoder of queries

    def active(self, catalog: Catalog, model: str | None) -> tuple[EncoderRow, list[Notice]]:
        """The active encoder, or the one that `model` names, and what the caller should know about it.

        Raises NoLibraryError before the first image is indexed, ModelMismatchError for a model without embeddings.
        """
        active, building = catalog.active(), catalog.building()
        if active is None:
            raise NoLibraryError(
                f"the library in {self._folder} is empty", advice="`clipsearch index FOLDER` adds images"
            )
        if model is not None:
            return self._held(catalog, model), []
        notices: list[Notice] = []
        fallback = catalog.meta("fallback")
        if fallback is not None:
            notices.append(fallback_notice(fallback, 'indexing with `model="default"` switches to CLIP'))
        if building is not None:
            from clipsearch.catalog import pending

            lacks = pending.count_without_vectors(catalog, active.id)
            if lacks:
                text = f"{active.info.spec} is active until {building.info.spec} is ready; it lacks {lacks} images"
                notices.append(Notice("switching", text))
        return active, notices

    def _held(self, catalog: Catalog, model: str) -> EncoderRow:
        """The row of an encoder that the library has embeddings of, by any name or place of its weights."""
        rows = catalog.encoders()
        spec = parse_spec(model, as_text=self._serving)
        for row in (*filter(None, (catalog.active(), catalog.building())), *reversed(rows)):
            if row.info.spec in (model, spec.name):
                return row
        held = ", ".join(row.info.spec for row in rows)
        mismatch = f"the library in {self._folder} has no embeddings of {model} (it has {held})"
        adding = f'indexing with `model="{model}"`'
        if spec.kind != "builtin" and not self._serving:
            try:
                encoder = load_encoder(spec.base.name, self.options)
            except EncoderError as exc:
                raise ModelMismatchError(mismatch, advice=f"{adding} would add them, but: {exc}") from exc
            for row in rows:
                base, rounding = taken_apart(row.info)
                if base.fingerprint == encoder.info.fingerprint and (rounding is not None) == spec.int8:
                    if rounding is not None:  # The weights may have moved.
                        encoder = reload_encoder(quantised_info(encoder.info, rounding), self.options)
                    self.keep(encoder)
                    return row
        raise ModelMismatchError(mismatch, advice=f"{adding} adds them")


def _gives_way(catalog: Catalog, active: EncoderRow, info: EncoderInfo) -> bool:
    """Whether an encoder without any vectors is the same model as `info` in the other precision: a new library's."""
    same = taken_apart(active.info)[0].fingerprint == taken_apart(info)[0].fingerprint
    return same and not catalog.embeddings.count(active.id)
