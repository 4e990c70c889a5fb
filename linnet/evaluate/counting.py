"""What a loss is worth: bits per byte of guessing, of letter frequencies, and of counting what followed what.

Counting is an n-gram of bytes (`ngram.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from linnet.console import count_of
from linnet.errors import UserError
from linnet.evaluate.ngram import NGram

if TYPE_CHECKING:
    from linnet.data.shards import Split
    from linnet.run import Run
    from linnet.tokenizers import Tokenizer

COUNTED_BYTES, SCORED_BYTES = 2_000_000, 200_000
"""the most training text that is counted, and the most held-out text that is scored"""
STRETCHES = 10
"""of a split that is longer, at even distances: its sources stand one after another"""

END = b"\xff"
"""stands for the end of a document; see `FIRST_MARK`"""
FIRST_MARK = 0xF5
"""No UTF-8 holds a byte from here on, so these are free to stand for special tokens: one byte for each. They are
predicted and paid for as the model has to, and are no bytes of text."""
LAST_MARK = 0xFF


@dataclass(frozen=True, kw_only=True, slots=True)
class Baselines:
    """Bits per byte of a held-out text without any model; special tokens are paid for, and are no bytes, as there."""

    uniform: float
    """guessing: log2 of `distinct`; 2.00 for a text of four letters"""
    letters: float
    """letter frequencies: each byte by how often it occurs in training text, whatever stands before it"""
    counting: float
    """a static, interpolated, modified Kneser-Ney n-gram of training text"""
    order: int
    """bytes of its longest n-gram"""
    counted_bytes: int
    """of training text that it counted"""
    scored_bytes: int
    """of held-out text that all three were scored on"""
    distinct: int
    """different bytes of that training text; one more, for all others, where the held-out text has any"""

    def named(self) -> list[tuple[str, float]]:
        """(what people call it, bits per byte), the simplest first."""
        return [("guessing", self.uniform), ("letter frequencies", self.letters), ("counting", self.counting)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: by its fields, but `uniform` by the name that people read."""
        values = asdict(self)
        return {"guessing": values.pop("uniform"), **values}

    @staticmethod
    def of(values: Mapping[str, Any]) -> Baselines:
        """What `as_dict` gave.

        Raises:
            KeyError, TypeError: it did not give these values.
        """
        others = {name: value for name, value in values.items() if name != "guessing"}
        return Baselines(uniform=values["guessing"], **others)


def baselines(train_text: bytes, test_text: bytes) -> Baselines:
    """What guessing, letter frequencies and counting in `train_text` need for a byte of `test_text`.

    Args:
        train_text, test_text: UTF-8, each document ended by `END` if there are several; that and other bytes from
            `FIRST_MARK` on are costs, as every special token is one to a model, but no bytes to divide by. Contexts
            begin at the start of `test_text` and reach across the documents in it, as those of a model's windows do;
            none reaches back into `train_text`.
    Raises:
        UserError: there is no text in `test_text`.
    """
    train, test = _text_bytes(train_text), _text_bytes(test_text)
    if not len(test):
        raise UserError("there is no text to score; give a held-out text that is not empty")
    letters = NGram.fit(train_text, 1)
    # the first byte too stands after the end of a document, as it does for a model
    counting = NGram.fit(END + train_text)
    distinct = len(np.unique(train)) + int(bool(np.setdiff1d(test, train).size))
    return Baselines(
        uniform=math.log2(distinct),
        letters=letters.bits(test_text) / len(test),
        counting=counting.bits(test_text, END) / len(test),
        order=counting.order,
        counted_bytes=len(train),
        scored_bytes=len(test),
        distinct=distinct,
    )


def split_baselines(train: Split, test: Split, tokenizer: Tokenizer) -> Baselines:
    """`baselines` of two splits of prepared data: the bytes that their ids stand for, one byte for a special token.

    So a dialogue is compared as fairly as a story: who speaks, and where it ends, has to be predicted and paid for
    here as by a model, and the bytes are those of the messages alone. Not comparable are the bits of a model that was
    scored on answers only.

    Raises:
        UserError: there is no text in `test`.
    """
    return baselines(split_text(train, tokenizer, COUNTED_BYTES), split_text(test, tokenizer, SCORED_BYTES))


def run_baselines(run: Run, test: Split) -> Baselines:
    """`split_baselines` of the text that a run learned from, and of `test`, whose ids are of the run's tokenizer.

    Raises:
        UserError: they would not be comparable with the model's figures, or that text is gone; says why.
    """
    if test.name == "train":
        raise UserError("the training split is what guessing, letter frequencies and counting would learn from")
    if test.mask is not None and run.config().get("train", {}).get("assistant_only"):
        raise UserError("this model learned answers only, and its bits are for all of each dialogue")
    try:
        prepared = run.data()
    except UserError:
        raise UserError("the text that the model learned from cannot be read any more") from None
    return split_baselines(prepared.split("train"), test, prepared.tokenizer())


def split_text(split: Split, tokenizer: Tokenizer, limit: int) -> bytes:
    """The bytes of a split, special tokens as one byte each; of a long one `limit`, from all over it, joined."""
    table = [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]
    others = sorted(id for id in tokenizer.special_ids.values() if id != tokenizer.end_of_text)
    for place, id in enumerate([tokenizer.end_of_text, *others]):
        table[id] = bytes([max(LAST_MARK - place, FIRST_MARK)])

    def text(start: int, end: int) -> bytes:
        return b"".join([table[id] for id in split.tokens[start:end].tolist()])

    size = len(split.tokens)
    if split.bytes <= limit:
        return text(0, size)
    length = int(size * limit / split.bytes) // STRETCHES
    starts = [place * (size - length) // (STRETCHES - 1) for place in range(STRETCHES)]
    return b"".join(text(start, start + length) for start in starts)[:limit]


def _text_bytes(text: bytes) -> np.ndarray:
    """(N,) uint8: `text` without what stands for special tokens."""
    values = np.frombuffer(text, np.uint8)
    return values[values < FIRST_MARK]


FEW_TOKENS = 1000
"""a loss of fewer scored tokens is named as a hint; its standard error is itself not known well then"""

_NAMES = {"train": "training", "val": "validation", "test": "test"}

_MORE = "more steps or minutes where the validation loss was still falling; else more text, or a smaller model"

_WORSE = {
    "guessing": "no model at all would do better here. A little text was learned by heart, or the learning rate was "
    "too high. What helps: more text or a smaller model; else a lower --optim.lr and --optim.matrix-lr",
    "letter frequencies": "to know how often each letter occurs would be worth more. What helps: " + _MORE,
    "counting": "a table of which byte followed which, made in a second, knows this text better. What helps: " + _MORE,
}
"""what it means to be worse than each, and what to do; the simplest is the one to name"""


def worth_lines(bits_per_byte: float, found: Baselines) -> list[str]:
    """Sentences on what a loss is worth: the figures that stand beside it, then what they mean for the model.

    Args:
        bits_per_byte: the model's, on the held-out text of `found`.
    """
    beside = ", ".join(f"{name} {value:.3f}" for name, value in found.named())
    return [f"what that is worth: {bits_per_byte:.3f} bits per byte, where {beside}", verdict(bits_per_byte, found)]


def worth_elsewhere(bits_per_byte: float, found: Baselines) -> list[str]:
    """`worth_lines` of a text that is not of those the model was trained and validated on."""
    *beside, said = worth_lines(bits_per_byte, found)
    name, best = min(found.named(), key=lambda pair: pair[1])
    if round(bits_per_byte, 3) > round(best, 3):
        said = (
            f"{name} does better here ({best:.3f} bits per byte): this text is unlike what the model has learned from"
        )
    return [*beside, said]


def verdict(bits_per_byte: float, found: Baselines) -> str:
    """One sentence: the simplest of the three that beats the model, and what to do; or how far it is below them all."""
    for name, value in found.named():
        if round(bits_per_byte, 3) > round(value, 3):
            return f"worse than {name} ({bits_per_byte:.3f} bits per byte, not {value:.3f}): {_WORSE[name]}"
    name, best = min(found.named(), key=lambda pair: pair[1])
    saved = 1 - bits_per_byte / best if best else 0.0
    if saved < 0.005:
        return f"no better than {name}, and no worse: the model has learned as much of this text as that knows"
    more = f": it has learned more than what {found.order - 1} bytes tell of the next" if name == "counting" else ""
    return f"better than all three, with {saved:.0%} fewer bits than {name}{more}"


def caution(split: str, tokens: int, standard_error: float | None) -> str:
    """One sentence on how far to trust a loss that rests on a handful of tokens; empty where there are enough.

    Args:
        split: "train", "val" or "test"; any other is a text as a whole.
        tokens: how many were scored.
        standard_error: of the loss; None or nan where it is not known.
    """
    if tokens >= FEW_TOKENS:
        return ""
    known = standard_error is not None and math.isfinite(standard_error)
    trust = f": chance alone may move its loss by {2 * (standard_error or 0):.2f} nats per token" if known else ""
    of_split = split in _NAMES
    what = f"the {_NAMES[split]} split" if of_split else "this text"
    more = "more text, or a larger --val-fraction, makes" if of_split else "a longer one makes"
    return (
        f"{what} has only {count_of(tokens, 'token')}{trust}. Take its figures as a hint; {more} a measurement of them"
    )
