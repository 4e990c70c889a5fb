"""Text to token ids and back: the room's public names."""

from typing import TYPE_CHECKING, Any

from linnet.tokenizers.base import SPECIALS, Tokenizer
from linnet.tokenizers.bpe import BPETokenizer
from linnet.tokenizers.char import CharTokenizer
from linnet.tokenizers.loading import load_tokenizer
from linnet.tokenizers.word import WordTokenizer

if TYPE_CHECKING:
    from linnet.tokenizers.template import ChatTemplate

__all__ = ["SPECIALS", "BPETokenizer", "CharTokenizer", "ChatTemplate", "Tokenizer", "WordTokenizer"]

# the one function that knows every class can belong to their common base only here, where all of them are known
Tokenizer.load = staticmethod(load_tokenizer)


def __getattr__(name: str) -> Any:
    if name != "ChatTemplate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from linnet.tokenizers.template import ChatTemplate  # `jinja2` takes a moment, and most texts are no dialogues

    return ChatTemplate
