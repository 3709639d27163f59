"""Label sets and classifiers under names, as plain files in the library's folder.

`labels/NAME.txt` is a label file as anybody may write it; `classifiers/NAME.json` holds what a classifier was made of
and its prototypes in base64, little-endian float32.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clipsearch.catalog.catalog import CATALOG_NAME
from clipsearch.classify.labels import IMAGENET, Label, checked, format_labels, is_text, parse_labels
from clipsearch.errors import ModelMismatchError, UsageError, reason
from clipsearch.files import replacing
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    from clipsearch.classify.classifier import Classifier, Fit

VERSION = 1
"""Of the classifiers' format."""

_NAME = re.compile(r"\w[\w.-]*")
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Drawer:
    """Named files of a kind in a library's folder."""

    folder: Path
    suffix: str
    what: str
    command: str

    def names(self) -> list[str]:
        """What there is, in the order of the alphabet."""
        try:
            files = os.listdir(self.folder)
        except OSError:
            return []
        names = (name.removesuffix(self.suffix) for name in files if name.endswith(self.suffix))
        return sorted(name for name in names if self.holds(name))

    def holds(self, name: str) -> bool:
        return _NAME.fullmatch(name) is not None and (self.folder / (name + self.suffix)).is_file()

    def read(self, name: str) -> str:
        """Raises UsageError where there is none of that name, or it cannot be read."""
        self.check_name(name)
        path = self.folder / (name + self.suffix)
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError as exc:
            names = self.names()
            there = f"{'is' if len(names) < 2 else 'are'} {', '.join(names) or 'none yet'}"
            raise UsageError(f"no {self.what} {name} in this library; there {there}") from exc
        except OSError as exc:
            raise UsageError(f"{path}: {reason(exc)}") from exc
        except UnicodeDecodeError as exc:
            raise UsageError(f"{path}: not a text in UTF-8") from exc

    def write(self, name: str, text: str, *, replace: bool = False) -> Path:
        """Keep `text` under a name; the file appears whole or not at all.

        Raises UsageError for a name that cannot be, one that is taken unless `replace`, and a folder that is not
        writable.
        """
        self.check_free(name, replace=replace)
        path = self.folder / (name + self.suffix)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
                temporary.chmod(self._mode())
        except OSError as exc:
            raise UsageError(f"cannot write {path}: {reason(exc)}") from exc
        return path

    def delete(self, name: str) -> None:
        """Raises UsageError where there is none of that name."""
        if not self.holds(name):
            self.read(name)
        try:
            (self.folder / (name + self.suffix)).unlink()
        except OSError as exc:
            raise UsageError(f"cannot delete the {self.what} {name}: {reason(exc)}") from exc

    def check_free(self, name: str, *, replace: bool) -> None:
        """Raises UsageError for a name that cannot be, or is taken unless `replace`."""
        self.check_name(name)
        if self.holds(name) and not replace:
            raise UsageError(f"there is a {self.what} {name} already; --replace replaces it")

    def check_name(self, name: str) -> None:
        """Raises UsageError for what cannot be the name of a file everywhere."""
        if not _NAME.fullmatch(name) or len(os.fsencode(name)) > _LONGEST:
            raise UsageError(f"{name!r} cannot name a {self.what}: letters, digits, . _ and - only, up to {_LONGEST}")

    def _mode(self) -> int:
        """The catalog's permissions: whoever may read the library may read what is kept in it."""
        try:
            return stat.S_IMODE((self.folder.parent / CATALOG_NAME).stat().st_mode)
        except OSError:
            return 0o600


def label_sets(library: Path) -> Drawer:
    """The saved label sets of the library in a folder."""
    return Drawer(library / "labels", ".txt", "label set", "labels")


def classifiers(library: Path) -> Drawer:
    """The saved classifiers of the library in a folder."""
    return Drawer(library / "classifiers", ".json", "classifier", "classifiers")


def save_labels(library: Path, name: str, labels: Sequence[Label], *, replace: bool = False) -> Path:
    """Keep labels as a set. Raises UsageError as `Drawer.write`, and for the name of the built-in set."""
    if name == IMAGENET:
        raise UsageError(f"{IMAGENET} is the built-in label set; choose another name")
    return label_sets(library).write(name, format_labels(checked(labels)), replace=replace)


def load_labels(library: Path, name: str) -> tuple[Label, ...]:
    """Raises UsageError where there is none, or it cannot be read, and for labels that cannot be."""
    labels = parse_labels(label_sets(library).read(name))
    if not labels:
        raise UsageError(f"the label set {name} has no label in it; clipsearch labels save {name} --replace LABEL…")
    try:
        return checked(labels)
    except UsageError as exc:
        raise UsageError(f"the label set {name}: {exc}") from exc


def save_classifier(library: Path, name: str, classifier: Classifier, *, replace: bool = False) -> Path:
    """Keep a classifier. Raises UsageError."""
    value = {
        "version": VERSION,
        "model": classifier.info.spec,
        "fingerprint": classifier.info.fingerprint,
        "labels": [asdict(label) for label in classifier.labels],
        "templates": classifier.templates,
        "fit": None if classifier.fit is None else asdict(classifier.fit),
        "dim": classifier.info.dim,
        "prototypes": base64.b64encode(classifier.prototypes.astype("<f4").tobytes()).decode("ascii"),
    }
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return classifiers(library).write(name, text + "\n", replace=replace)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a saved classifier says of itself, before any encoder is asked."""

    name: str
    model: str
    fingerprint: str
    labels: tuple[Label, ...]
    templates: tuple[str, ...]
    fit: Fit | None
    dim: int
    prototypes: bytes

    @property
    def examples(self) -> int:
        """How many pictures had a part in it."""
        return sum(self.fit.counts) if self.fit else 0

    def counts(self) -> list[tuple[str, int]]:
        """The labels, each with the number of its examples."""
        counts = self.fit.counts if self.fit else [0] * len(self.labels)
        return [(label.name, count) for label, count in zip(self.labels, counts, strict=True)]

    def facts(self) -> dict[str, Any]:
        """What it was made of, for JSON."""
        fit = {key: value for key, value in asdict(self.fit).items() if key != "counts"} if self.fit else None
        return {
            "name": self.name,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "labels": [{"label": label, "examples": count} for label, count in self.counts()],
            "templates": list(self.templates),
            "fit": fit,
        }

    def open(self, info: EncoderInfo) -> Classifier:
        """The classifier, for the encoder that it was made with.

        Raises ModelMismatchError for another encoder: its vectors lie in another space.
        """
        import numpy as np

        from clipsearch.classify.classifier import Classifier

        check_encoder(
            f"the classifier {self.name}",
            self.model,
            self.fingerprint,
            info,
            anew=f": classify --save {self.name} --replace",
        )
        rows = np.frombuffer(self.prototypes, "<f4").reshape(len(self.labels), self.dim)
        return Classifier(info, self.labels, rows, self.templates, self.fit)


def check_encoder(what: str, model: str, fingerprint: str, info: EncoderInfo, *, anew: str = "") -> None:
    """Raises ModelMismatchError where `what`, which was made with `model`, does not belong to the encoder `info`.

    `anew` says how it is made.
    """
    if fingerprint == info.fingerprint:
        return
    if model == info.spec:
        raise ModelMismatchError(f"{what} was made with another version of {model}; make it anew{anew}")
    raise ModelMismatchError(
        f"{what} was made with {model}, and the library answers with {info.spec}; "
        f"--model {model} if the library still holds it, or make it anew{anew}"
    )


def load_classifier(library: Path, name: str) -> Saved:
    """Raises UsageError where there is none, or the file is not one of ours."""
    text = classifiers(library).read(name)
    try:
        value = json.loads(text)
        newer = value["version"] > VERSION
        saved = None if newer else _read(name, value)
    # Whatever a damaged file brings about on its way through; RecursionError is for brackets in brackets.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as exc:
        path = classifiers(library).folder / f"{name}.json"
        raise UsageError(f"{path}: not a classifier, or damaged; clipsearch classifiers delete {name}") from exc
    if saved is None:
        raise UsageError(f"the classifier {name} was written by a newer clipsearch; update clipsearch")
    return saved


def _read(name: str, value: Mapping[str, Any]) -> Saved:
    """Raises any of ValueError, KeyError, TypeError, AttributeError and UsageError for what cannot be."""
    labels = checked(Label(one["name"], tuple(one["synonyms"]), one["spoken"]) for one in value["labels"])
    prototypes = base64.b64decode(value["prototypes"], validate=True)
    dim, texts = value["dim"], (value["model"], value["fingerprint"], *value["templates"])
    if not isinstance(dim, int) or len(prototypes) != 4 * dim * len(labels):
        raise ValueError("its prototypes are cut off")
    if not all(isinstance(text, str) and is_text(text) for text in texts):
        raise ValueError("its texts are none")
    fit = None if value["fit"] is None else _read_fit(value["fit"], len(labels))
    return Saved(name, texts[0], texts[1], labels, texts[2:], fit, dim, prototypes)


def _read_fit(value: Mapping[str, Any], labels: int) -> Fit:
    from clipsearch.classify.classifier import BlendBy, Fit

    fit = Fit(**{**value, "counts": tuple(value["counts"])})
    figures = (fit.blend, fit.scale, fit.right, fit.ece_before, fit.ece_after, fit.floor)
    if len(fit.counts) != labels or not all(isinstance(count, int) for count in fit.counts):
        raise ValueError("its counts are none")
    if not all(math.isfinite(figure) for figure in figures) or fit.blend_by not in get_args(BlendBy):
        raise ValueError("its fit is none")
    return fit
