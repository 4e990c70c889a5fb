"""Texts that catch mistakes, shared by the tests of this room (named apart: `tests/tokenizers` is no package,
lest it be imported in place of Hugging Face's `tokenizers`)."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

GOLDEN = [
    "",
    " ",
    "a",
    "Hello, world! It's the dog's; they'll've said 'twas 'S not 're 'R.",
    "tabs\tand  two spaces\r\n\r\n  indented\n\n\n   \n end   ",
    "\x00\x01 NUL \x1c\x1d\x85\xa0 controls\u2028\u3000spaces\u200b\ufeff",
    "naïve café e\u0301 n\u0303 Å Å ﬁ ½ ² Ⅷ ١٢٣ १२३ 四",
    "हिन्दी में नमस्ते दुनिया, क्षत्रिय; தமிழ் வணக்கம்; বাংলা ভাষা",
    "العَرَبِيَّةُ لُغَةٌ جميلة، ۱۲۳ שָׁלוֹם",
    "日本語のテキスト、中文。한국어 ไทย ລາວ",
    "👩‍👩‍👧‍👦 🇮🇳🏳️‍🌈 👍🏽!! ❤️ 🤷🏾‍♂️",
    "<|endoftext|><|user|> <|end|>text<|assistant|>\n<|system|><|endof",
    "x=1;if(y!=3.14e-10){return\t'don''t';}//###",
    "aaaaaaaaaaaaaaaa aaa aa a " + "ab" * 300 + " " * 300 + "!" * 301,
]

# letters, a mark, digits, spaces, signs, contractions: so that every rule of the pattern meets every other
TRICKY = st.text(st.sampled_from("ab'srtvelmd  \n\t\r\u00a0\u0301é१1.,!😀<|"), max_size=60)
TEXTS = st.one_of(TRICKY, st.text(max_size=60), st.sampled_from(GOLDEN))

CORPUS = [
    "the cat sat on the mat. the dog sat on the cat, and the cat's mat isn't the dog's.",
    "Hello hello HELLO, they'll say they've seen 1000 dogs & 2000 cats!!!   \n\n  aaaa aaa aa",
    "<|endoftext|> is only text here, and <|end|> is too <|endoftext|>\n<|endoftext|>\n",
    *GOLDEN,
]


def data_file(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} lies beside the repository, in shared/data; it is not there")
    return path


def broken(document: Any, *path: str | int, value: Any = None) -> Any:
    """A copy of a tokenizer's document with another value at `path`; None takes the entry out."""
    document = json.loads(json.dumps(document))
    *parents, last = path
    place = document
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document
