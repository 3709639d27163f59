"""Our byte-pair tokenizer gives open_clip's ids, for every kind of text, and loads without torch."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from clipsearch.encoders.clip.bpe import CLEANINGS, BytePairTokenizer

ODD = [
    "", " ", "A Dog", "it's I'LL we'Ve", "<start_of_text> x <END_OF_TEXT>", "<end_of_text>a", "a_b_c-d!!??",
    "dog " * 100,
    "naïve &amp; caf&eacute; &lt;b&gt;", "a&b", "&", "&&amp;amp;", "x\x00y\x07z", "\x1b[31mred",
    "tab\x7f", "a\x1cb\x1db",
    "ﬁne Ǆ İstanbul ſ K\u212a 'ſ it'ſ", "ΑΣ ΣΑΣ", "schÃ¶n", "a\u200bb\u2028c", "e\u0301 é", "“quotes” ‘q’",
    "a\x85b", "😀👩‍👩‍👧 x", "１２ ½ Ⅷ ٣ ٠١٢", "\u3000 全角", "猫がいる", "\t\n tab\r\n", "a\x0bb\x0cc", "x" * 300,
]  # fmt: skip
PARTS = [
    "'s", "'LL", " ", "dog", "Ä", "é", "猫", "٣", "①", "<end_of_text>", "&amp;", "&#39;", "\u00a0", "ﬀ", "ſ", "Ã©", "…",
    "’s", "İ", "!", "_", "7",
]  # fmt: skip


def strings(table: list[str]) -> Iterator[str]:
    """10,000 texts: words of the table, ASCII of all kinds, joined oddities, and characters of every plane."""
    chance = random.Random(0)
    yield from ODD
    for _ in range(2500):
        yield " ".join(chance.choices(table, k=chance.randint(1, 8)))
    for _ in range(2000):
        yield "".join(chr(chance.randrange(128)) for _ in range(chance.randint(1, 40)))
    for _ in range(2500):
        yield "".join(chance.choices(PARTS, k=chance.randint(1, 9)))
    ranges = [(32, 0x2FF), (0x300, 0xD7FF), (0xE000, 0x1FFFF), (0x20000, 0x10FFFF), (32, 32), (97, 122)]
    for _ in range(3000):
        yield "".join(chr(chance.randint(*chance.choice(ranges))) for _ in range(chance.randint(1, 15)))


@pytest.mark.parametrize("clean", CLEANINGS)
def test_ids_are_those_of_open_clip(clean: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    theirs, ours = SimpleTokenizer(clean=clean), BytePairTokenizer(clean=clean)
    texts = list(strings([word.removesuffix("</w>") for word in theirs.encoder][512:-2]))
    assert len(texts) >= 10_000
    texts = texts if clean == "lower" else texts[::5] + ODD  # every model but SigLIP's kin cleans like this
    assert [text for text in texts if ours.encode(text) != theirs.encode(text)] == []
    np.testing.assert_array_equal(ours(texts[:1000]), theirs(texts[:1000]).numpy())


def test_a_short_context_cuts_as_open_clip_does() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    texts = ["a", "a dog on a beach at night, seen from above", "", "x " * 80]
    expected = SimpleTokenizer(context_length=8)(texts).numpy()
    np.testing.assert_array_equal(BytePairTokenizer(context_length=8)(texts), expected)
    assert expected[1].tolist() == [49406, 320, 1929, 525, 320, 2117, 536, 49407]


def test_neither_torch_nor_open_clip_is_imported() -> None:
    script = (
        "import sys; from clipsearch.encoders.clip.bpe import BytePairTokenizer;"
        "BytePairTokenizer()(['a dög &amp; cat']);"
        "print([name for name in ('torch', 'open_clip', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
