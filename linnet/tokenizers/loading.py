"""From a path to the tokenizer that lies there, whatever its format."""

import os
from pathlib import Path
from typing import Any

from linnet.files import read_json
from linnet.tokenizers.base import FILE_NAME, Tokenizer
from linnet.tokenizers.bpe import BPETokenizer
from linnet.tokenizers.char import CharTokenizer
from linnet.tokenizers.gpt2 import load_gpt2
from linnet.tokenizers.plain import PlainTokenizer
from linnet.tokenizers.word import WordTokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer at `path`, of the class that the file says.

    Args:
        path: a `tokenizer.json`, a tiktoken rank file, or a folder that holds `tokenizer.json`, else GPT-2's
            `vocab.json` and `merges.txt`.
    Raises:
        UserError: no such file, damaged, or of a kind that Linnet does not read.
    """
    path = Path(path)
    folder = os.path.isdir(path)  # unlike a Path's, it knows no names that are errors
    file = path / FILE_NAME if folder else path
    if folder and not file.exists() and (path / "vocab.json").exists():
        return load_gpt2(path)
    if os.path.isfile(file) and not _is_json(file):
        return load_gpt2(file)
    document = read_json(file)
    return class_of(document).from_document(document, name=str(file))


def class_of(document: Any) -> type[BPETokenizer] | type[PlainTokenizer]:
    """The class that can read a `tokenizer.json`, told by how it cuts text: not at all, into words, or otherwise."""
    if not isinstance(document, dict):
        return BPETokenizer  # which says what is wrong with it
    cut = document.get("pre_tokenizer")
    if cut is None:
        return CharTokenizer
    return WordTokenizer if isinstance(cut, dict) and cut.get("type") == "Split" else BPETokenizer


def _is_json(file: Path) -> bool:
    """Whether it is JSON by its name or by how it begins; no rank file, which is base64, begins with a bracket."""
    if file.suffix == ".json":
        return True
    try:
        with open(file, "rb") as opened:
            return opened.read(64).lstrip()[:1] in (b"{", b"[")
    except OSError:
        return False  # whoever reads it as a rank file says what is wrong
