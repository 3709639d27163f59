"""Saved label sets and classifiers: plain files in the library's folder.

`labels/NAME.txt` is an ordinary label file; `classifiers/NAME.json` contains what a classifier was made from, and its
prototypes in base64, little-endian float32.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clipsearch.catalog.catalog import CATALOG_NAME
from clipsearch.classify.labels import IMAGENET, Label, checked, format_labels, parse_labels
from clipsearch.errors import ModelMismatchError, UsageError, reason
from clipsearch.files import making_folder, replacing
from clipsearch.types import EncoderInfo, is_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.classify.classifier import Classifier, Fit

VERSION = 1
"""Version of the classifiers' format."""

_FIT = ("blend", "blend_by", "scale", "scale_fitted", "right", "ece_before", "ece_after", "floor")
"""The keys of what examples made of a classifier: the fields of `Fit` after `counts`, in their order."""

_KNOWN = ("counts", "cohesion", "floor")
"""The keys of what its examples look like, beside the prototypes: fields of `Known`. Version 0.1.0 ignores them."""

_NAME = re.compile(r"\w[\w.-]*")
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Drawer:
    """Named files of one kind in a library's folder; `what` is what messages call them."""

    folder: Path
    suffix: str
    what: str

    def names(self) -> list[str]:
        """The existing names, sorted."""
        names = (path.name.removesuffix(self.suffix) for path in self.folder.glob(f"*{self.suffix}"))
        return sorted(name for name in names if self.holds(name))

    def holds(self, name: str) -> bool:
        return _NAME.fullmatch(name) is not None and (self.folder / (name + self.suffix)).is_file()

    def read(self, name: str) -> str:
        """The file's text. Raises UsageError where there is no such file, or it cannot be read."""
        self.check_name(name)
        path = self.folder / (name + self.suffix)
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError as exc:
            names = ", ".join(self.names()) or "none"
            raise UsageError(f"this library has no {self.what} {name}", advice=f"existing ones: {names}") from exc
        except OSError as exc:
            raise UsageError(reason(exc), path=str(path)) from exc
        except UnicodeDecodeError as exc:
            raise UsageError("not valid UTF-8", path=str(path)) from exc

    def write(self, name: str, text: str, *, replace: bool = False) -> Path:
        """Save `text` under a name, whole or not at all; the path.

        Raises UsageError for an invalid name, one that is taken unless `replace`, and a folder that cannot be written.
        """
        self.check_free(name, replace=replace)
        path = self.folder / (name + self.suffix)
        try:
            with making_folder(path.parent), replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
                temporary.chmod(self._mode())
        except OSError as exc:
            raise UsageError(f"cannot write {path}: {reason(exc)}") from exc
        return path

    def delete(self, name: str) -> None:
        """Delete a file. Raises UsageError where there is none of that name."""
        if not self.holds(name):
            self.read(name)
        try:
            (self.folder / (name + self.suffix)).unlink()
        except OSError as exc:
            raise UsageError(f"cannot delete the {self.what} {name}: {reason(exc)}") from exc

    def check_free(self, name: str, *, replace: bool) -> None:
        """Raises UsageError for a name that is invalid, or taken unless `replace`."""
        self.check_name(name)
        if self.holds(name) and not replace:
            raise UsageError(f"there is already a {self.what} {name}", advice="replace it with `replace=True`")

    def check_name(self, name: str) -> None:
        """Raises UsageError for a name that is not a valid file name everywhere."""
        if not _NAME.fullmatch(name) or len(os.fsencode(name)) > _LONGEST:
            raise UsageError(
                f"invalid name {name!r} for a {self.what}: use letters, digits, . _ and -, at most {_LONGEST}"
            )

    def _mode(self) -> int:
        """The catalog's permissions: whoever may read the library may read what is saved in it."""
        try:
            return stat.S_IMODE((self.folder.parent / CATALOG_NAME).stat().st_mode)
        except OSError:
            return 0o600


def label_sets(library: Path) -> Drawer:
    """The saved label sets of the library in a folder."""
    return Drawer(library / "labels", ".txt", "label set")


def classifiers(library: Path) -> Drawer:
    """The saved classifiers of the library in a folder."""
    return Drawer(library / "classifiers", ".json", "classifier")


def save_labels(library: Path, name: str, labels: Sequence[Label], *, replace: bool = False) -> Path:
    """Save labels as a set. Raises UsageError as `Drawer.write`, and for the name of the built-in set."""
    if name == IMAGENET:
        raise UsageError(f"{IMAGENET} is the built-in label set; choose another name")
    return label_sets(library).write(name, format_labels(checked(labels)), replace=replace)


def load_labels(library: Path, name: str) -> tuple[Label, ...]:
    """A saved label set. Raises UsageError where there is none, it cannot be read, or its labels are invalid."""
    labels = parse_labels(label_sets(library).read(name))
    if not labels:
        raise UsageError(f"the label set {name} has no labels", advice="save it again with `replace=True`")
    try:
        return checked(labels)
    except UsageError as exc:
        raise UsageError(f"the label set {name}: {exc}") from exc


def save_classifier(library: Path, name: str, classifier: Classifier, *, replace: bool = False) -> Path:
    """Save a classifier. Raises UsageError as `Drawer.write`."""
    value = {
        "version": VERSION,
        "model": classifier.info.spec,
        "fingerprint": classifier.info.fingerprint,
        "labels": [{"name": one.name, "synonyms": one.synonyms, "spoken": one.spoken} for one in classifier.labels],
        "templates": classifier.templates,
        "fit": classifier.fit and {"counts": classifier.fit.counts, **fit_facts(classifier.fit)},
        "dim": classifier.info.dim,
        "prototypes": _encoded(classifier.prototypes),
    }
    if classifier.known is not None:
        value["known"] = {key: getattr(classifier.known, key) for key in _KNOWN} | {
            "prototypes": _encoded(classifier.known.prototypes)
        }
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return classifiers(library).write(name, text + "\n", replace=replace)


def fit_facts(fit: Fit) -> dict[str, Any]:
    """What examples made of a classifier, but for their counts: the keys of its file and of JSON output."""
    _, *values = astuple(fit)
    return dict(zip(_FIT, values, strict=True))


@dataclass(frozen=True, slots=True)
class KnownFacts:
    """What the examples of a saved classifier look like; the fields of `Known`, the prototypes as in the file."""

    prototypes: bytes
    counts: tuple[int, ...]
    cohesion: float
    floor: float


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved classifier as its file has it, before any encoder is loaded."""

    name: str
    model: str
    fingerprint: str
    labels: tuple[Label, ...]
    templates: tuple[str, ...]
    fit: Fit | None
    dim: int
    prototypes: bytes
    known: KnownFacts | None = None

    @property
    def examples(self) -> int:
        """The number of examples that it was made from."""
        return sum(self.fit.counts) if self.fit else 0

    def counts(self) -> list[tuple[str, int]]:
        """The labels, each with the number of its examples."""
        counts = self.fit.counts if self.fit else [0] * len(self.labels)
        return [(label.name, count) for label, count in zip(self.labels, counts, strict=True)]

    def facts(self) -> dict[str, Any]:
        """What it was made from, for JSON."""
        return {
            "name": self.name,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "labels": [{"label": label, "examples": count} for label, count in self.counts()],
            "templates": list(self.templates),
            "fit": self.fit and fit_facts(self.fit),
        }

    def open(self, info: EncoderInfo) -> Classifier:
        """The classifier, with the encoder that it was made for.

        Raises ModelMismatchError for another encoder: its vectors lie in another space.
        """
        import numpy as np

        from clipsearch.classify.classifier import Classifier
        from clipsearch.classify.known import Known

        check_encoder(f"the classifier {self.name}", self.model, self.fingerprint, info)

        def rows(data: bytes) -> NDArray[np.float32]:
            return np.frombuffer(data, "<f4").reshape(len(self.labels), self.dim)

        facts = self.known
        known = None if facts is None else Known(rows(facts.prototypes), facts.counts, facts.cohesion, facts.floor)
        return Classifier(info, self.labels, rows(self.prototypes), self.templates, self.fit, known=known)


def check_encoder(what: str, model: str, fingerprint: str, info: EncoderInfo) -> None:
    """Raises ModelMismatchError where `what`, which was made with `model`, does not belong to the encoder `info`."""
    if fingerprint == info.fingerprint:
        return
    again = "make it again, and save it with `replace=True`"
    if model == info.spec:
        raise ModelMismatchError(f"{what} was made with another version of {model}", advice=again)
    raise ModelMismatchError(
        f"{what} was made with {model}, and the active model is {info.spec}",
        advice=f'choose `model="{model}"` if the library still has it; otherwise {again}',
    )


def load_classifier(library: Path, name: str) -> Saved:
    """A saved classifier. Raises UsageError where there is none, or the file is not one of ours."""
    text = classifiers(library).read(name)
    try:
        value = json.loads(text)
        newer = value["version"] > VERSION
        saved = None if newer else _read(name, value)
    # Whatever a damaged file may cause; RecursionError comes from deeply nested brackets.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as exc:
        raise UsageError(
            "not a classifier, or damaged",
            path=str(classifiers(library).folder / f"{name}.json"),
            advice=f"`clipsearch classifiers delete {name}` deletes it",
        ) from exc
    if saved is None:
        raise UsageError(f"the classifier {name} was written by a newer clipsearch", advice="update clipsearch")
    return saved


def _read(name: str, value: Mapping[str, Any]) -> Saved:
    """Raises any of ValueError, KeyError, TypeError, AttributeError and UsageError for an invalid file."""
    labels = checked(Label(one["name"], tuple(one["synonyms"]), one["spoken"]) for one in value["labels"])
    prototypes = base64.b64decode(value["prototypes"], validate=True)
    known = _read_known(value["known"], len(labels), len(prototypes)) if value.get("known") else None
    dim, texts = value["dim"], (value["model"], value["fingerprint"], *value["templates"])
    if not isinstance(dim, int) or len(prototypes) != 4 * dim * len(labels):
        raise ValueError("truncated prototypes")
    if not all(isinstance(text, str) and is_text(text) for text in texts):
        raise ValueError("invalid texts")
    fit = None if value["fit"] is None else _read_fit(value["fit"], len(labels))
    return Saved(name, texts[0], texts[1], labels, texts[2:], fit, dim, prototypes, known)


def _read_fit(value: Mapping[str, Any], labels: int) -> Fit:
    from clipsearch.classify.classifier import BlendBy, Fit

    if value.keys() != {"counts", *_FIT}:
        raise ValueError("other keys")
    fit = Fit(tuple(value["counts"]), *(value[key] for key in _FIT))
    figures = (fit.blend, fit.scale, fit.right, fit.ece_before, fit.ece_after, fit.floor)
    if len(fit.counts) != labels or not all(isinstance(count, int) for count in fit.counts):
        raise ValueError("invalid counts")
    if not all(math.isfinite(figure) for figure in figures) or fit.blend_by not in get_args(BlendBy):
        raise ValueError("invalid fit")
    return fit


def _read_known(value: Mapping[str, Any], labels: int, size: int) -> KnownFacts:
    counts, cohesion, floor = (value[key] for key in _KNOWN)
    prototypes = base64.b64decode(value["prototypes"], validate=True)
    if len(prototypes) != size or len(counts) != labels or not all(isinstance(count, int) for count in counts):
        raise ValueError("truncated examples")
    if not math.isfinite(cohesion) or not math.isfinite(floor) or not 0 <= cohesion <= 1:
        raise ValueError("invalid examples")
    return KnownFacts(prototypes, tuple(counts), cohesion, floor)


def _encoded(rows: NDArray[np.float32]) -> str:
    return base64.b64encode(rows.astype("<f4").tobytes()).decode("ascii")
