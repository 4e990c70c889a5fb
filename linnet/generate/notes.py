"""What a model cannot read of a prompt, in sentences for its user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from linnet.console import count_of
from linnet.generate.context import dropped
from linnet.tokenizers.pieces import unseen_characters

if TYPE_CHECKING:
    from linnet.tokenizers import Tokenizer

NAMED = 12
"""unseen characters that are named one by one"""


def cut_note(what: str, length: int, system_length: int, block_size: int) -> str:
    """That the model sees only the end of `what`, where that is so; else empty.

    Args:
        length: of the prompt, in tokens, of which the first `system_length` stay visible.
    Raises:
        UserError: the system prompt takes more than half of the context.
    """
    gone = dropped(length, system_length, block_size)
    if not gone:
        return ""
    seen = "the system prompt and the last" if system_length else "only the last"
    return (
        f"{what} is {length:,} tokens long and the model reads {block_size:,} at once: it sees {seen} "
        f"{length - system_length - gone:,}"
    )


def unseen_note(tokenizer: Tokenizer, characters: Sequence[str]) -> str:
    """That `characters`, all unseen ones, have no id of their own; empty where there are none."""
    if not characters:
        return ""
    named = ", ".join(map(repr, characters[:NAMED]))
    more = f" and {len(characters) - NAMED:,} more" if len(characters) > NAMED else ""
    if tokenizer.lost_bytes:
        return (
            f"{count_of(len(characters), 'character')} without an id in the model's vocabulary: {named}{more}; what "
            "has none is left out, as it was when the model learned"
        )
    # where a vocabulary has no bytes, one id stands for all that is unseen
    how = "as one and the same unknown character" if len(tokenizer.unseen_ids) == 1 else "byte by byte"
    return (
        f"{count_of(len(characters), 'character')} without an id in the model's vocabulary: {named}{more}; "
        f"read {how}, of which the model knows little"
    )


def prompt_notes(tokenizer: Tokenizer, prompt: str, length: int, block_size: int) -> list[str]:
    """What the model cannot read of a prompt that is to be continued, and is `length` tokens long."""
    notes = cut_note("the prompt", length, 0, block_size), unseen_note(tokenizer, unseen_characters(tokenizer, prompt))
    return [note for note in notes if note]
