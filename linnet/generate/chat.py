"""Messages -> a reply, turn after turn."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from linnet.errors import UserError
from linnet.generate.cache import common_prefix
from linnet.generate.engine import Engine
from linnet.generate.text import Drawn, kept, stream_text
from linnet.tokenizers import SPECIALS

if TYPE_CHECKING:
    from linnet.generate.sampling import Sampling
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import ChatTemplate, Tokenizer

Message = Mapping[str, str]


def chat_prompt(template: ChatTemplate, tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], int]:
    """The ids after which the assistant's next message begins, and how many of them are the system prompt.

    They begin with the end-of-text token, which stands before every document that the model has learned from: what
    the template writes follows it there, and so it does here. Published models have templates that begin as their
    dialogues did. The system prompt is counted with it.

    Raises:
        UserError: no message, a message of the wrong form, or nothing to answer.
    """
    ids = as_document(template.encode(messages, tokenizer, add_generation_prompt=True)[0], tokenizer)
    if messages[-1]["role"] != "user":
        raise UserError(f"the last message is the {messages[-1]['role']}'s; it must be the user's, to be answered")
    if messages[0]["role"] != "system":
        return ids, 0
    # what a dialogue of the system message alone begins with: a template may close dialogues with tokens of its own
    alone = as_document(template.encode(messages[:1], tokenizer, add_generation_prompt=False)[0], tokenizer)
    return ids, common_prefix(alone, ids)


def as_document(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """`ids` after one token that begins a text; a template may write it itself, as exported ones do, or another special
    token that begins a message in the words of a published model."""
    own = {tokenizer.special_ids[name] for name in SPECIALS[1:] if name in tokenizer.special_ids}
    begins = ids[:1] and ids[0] in set(tokenizer.special_ids.values()) - own
    return ids if begins else [tokenizer.begin_of_text, *ids]


class Conversation:
    """A dialogue that goes on: its messages, and an engine that keeps what the model has read of them.

    Every turn is encoded from the messages anew, as in training; the engine sees to it that what has not changed is not
    read again. So a turn says the same as it would in a fresh conversation, before and after the context overflows.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        sampling: Sampling,
        messages: Sequence[Message] = (),
    ) -> None:
        self.model, self.tokenizer, self.template, self.sampling = model, tokenizer, template, sampling
        """the sampling may be replaced between turns"""
        self.messages: list[Message] = list(messages)
        """everything said so far; may be edited between turns"""
        self.engine = Engine(model, vocab_size=tokenizer.vocab_size)
        self.drawn: Drawn | None = None
        """the last reply, id by id; None before the first"""

    def stream(self, text: str) -> Generator[str, None, None]:
        """Pieces of the reply to `text`. Both become messages; a reply cut short is kept as far as it came.

        Raises:
            UserError: the system prompt is too long for the model's context.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        prompt, system_length = chat_prompt(self.template, self.tokenizer, asked)
        for left in list(self.engine.rows):  # a text that nobody read to its end
            self.engine.cancel(left)
        drawn = Drawn(prompt, system_length, self.sampling)
        coming = stream_text(
            self.model,
            self.tokenizer,
            prompt,
            self.sampling,
            system_length=system_length,
            engine=self.engine,
            drawn=drawn.ids,
        )
        yield from kept(coming, lambda reply: self._keep(asked, reply, drawn))

    def say(self, text: str) -> str:
        """The whole reply to `text`."""
        return "".join(self.stream(text))

    @property
    def last_reply(self) -> str | None:
        """What the assistant said last, or None."""
        return next((message["content"] for message in reversed(self.messages) if message["role"] == "assistant"), None)

    @property
    def system(self) -> str | None:
        """The system prompt, or None."""
        first = self.messages[0] if self.messages else None
        return first["content"] if first is not None and first["role"] == "system" else None

    def _keep(self, asked: list[Message], reply: str, drawn: Drawn) -> None:
        self.messages = [*asked, {"role": "assistant", "content": reply}]
        self.drawn = drawn
