"""The text of JSON output is that of Python's own encoder, but for characters that could control a terminal."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from clipsearch.export.json import text
from clipsearch.types import Notice

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner))


@given(st.dictionaries(st.text(), VALUES))
def test_the_indented_text_is_that_of_the_standard_encoder(value: dict[str, object]) -> None:
    expected = json.dumps(value, ensure_ascii=False, indent=2)
    written = text(value)
    assert written.endswith("}\n")
    if expected.isascii() and "\x7f" not in expected:
        assert written == expected + "\n"
    else:  # Nothing but escapes may differ.
        assert json.dumps(json.loads(written)) == json.dumps(json.loads(expected))


def test_strings_that_are_more_than_strings_are_written_as_strings() -> None:
    assert json.loads(text({"a": [Notice("relevance", "b")]})) == {"a": ["b"]}
