"""The rows of the table, by name, in its order. A function measures what belongs together and may give several rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench
from benchmarks.results import Row
from benchmarks.rows import classifying, encoding, indexing, querying, scale

Measure = Callable[[Bench], list[Row]]

ROWS: Mapping[str, Measure] = {
    "encode": encoding.encode,
    "int8": encoding.int8,
    "index-limit": indexing.against_limit,
    "decode": encoding.decode,
    "index-rclip": indexing.against_rclip,
    "index-large": indexing.large,
    "query": querying.query,
    "query-again": querying.query_again,
    "help": querying.help_text,
    "unchanged": indexing.unchanged,
    "scale": scale.cold,
    "add-one": scale.add_one,
    "warm": scale.warm,
    "memory": indexing.memory,
    "fidelity": encoding.fidelity,
    "loops": indexing.loops,
    "zero-shot": classifying.zero_shot,
}
