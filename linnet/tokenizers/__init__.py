"""Text to token ids and back: the room's public names, imported when first used."""

import importlib
from typing import TYPE_CHECKING, Any

from linnet.tokenizers.base import SPECIALS, Tokenizer

if TYPE_CHECKING:
    from linnet.tokenizers.bpe import BPETokenizer
    from linnet.tokenizers.char import CharTokenizer
    from linnet.tokenizers.template import ChatTemplate
    from linnet.tokenizers.word import WordTokenizer

__all__ = ["SPECIALS", "BPETokenizer", "CharTokenizer", "ChatTemplate", "Tokenizer", "WordTokenizer"]

_HOMES = {
    "BPETokenizer": "linnet.tokenizers.bpe",
    "CharTokenizer": "linnet.tokenizers.char",
    "ChatTemplate": "linnet.tokenizers.template",
    "WordTokenizer": "linnet.tokenizers.word",
}


def __getattr__(name: str) -> Any:
    # `regex` and `jinja2` take longer to import than everything else here; `linnet --help` needs neither
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
