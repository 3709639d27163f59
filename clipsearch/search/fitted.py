"""Constants that were fitted to a user's labelled images (`evaluate.fitting`), stored in the catalog for one encoder.

Queries with `relevant` and classifications with `unknown` use them in place of the program's own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from clipsearch.catalog.catalog import FITTED, Catalog
from clipsearch.search.evidence import Cut, Cuts, Evidence
from clipsearch.search.relevance import TEXTS


@dataclass(frozen=True, slots=True)
class Rule:
    """Which images are relevant to a query of texts: by `cuts`, with a `lift` added to the score that stands out.

    lift: in units of the z-score, in addition to `relevance.LIFT`. The relevance that hits report does not change.
    """

    cuts: Cuts
    lift: float = 0.0

    def cut(self, found: Evidence) -> Cut:
        """Which images are relevant."""
        return replace(found, stands_out=found.stands_out + self.lift * found.step).cut(self.cuts)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The constants of one encoder: of `relevant` (`rule`), and of `unknown` (`margin`, as in `ClassifyOptions`).

    labels, images: how many of each they were fitted to.
    """

    rule: Rule
    margin: float
    labels: int
    images: int


def recall(catalog: Catalog, encoder_id: int) -> Fitted | None:
    """What is stored for an encoder; None where nothing is, or only constants of a rule that has changed since."""
    stored = catalog.meta(f"{FITTED}:{encoder_id}")
    if stored is None:
        return None
    try:
        known = json.loads(stored)
        rule = Rule(Cuts(**known["rule"]["cuts"]), known["rule"]["lift"])
        return Fitted(rule, known["margin"], known["labels"], known["images"])
    except (ValueError, KeyError, TypeError):
        return None


def store(catalog: Catalog, encoder_id: int, fitted: Fitted | None) -> None:
    """Store `fitted` for an encoder; None forgets what is stored."""
    catalog.set_meta(f"{FITTED}:{encoder_id}", None if fitted is None else json.dumps(asdict(fitted)))


def cut(catalog: Catalog, encoder_id: int, found: Evidence) -> Cut:
    """Which images are relevant, by fitted constants or the program's own."""
    fitted = recall(catalog, encoder_id) if found.kind in TEXTS else None
    return fitted.rule.cut(found) if fitted else found.cut()


def margin(catalog: Catalog | None, encoder_id: int) -> float | None:
    """The fitted margin; None for the program's own."""
    fitted = recall(catalog, encoder_id) if catalog is not None else None
    return fitted.margin if fitted else None
