"""`LM`: a trained model with its tokenizer and template, as `linnet.load` returns it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet import runtime
from linnet.errors import UserError
from linnet.generate.sampling import Sampling

ROLE_MARKS = frozenset({"<|system|>", "<|user|>", "<|assistant|>"})
"""special tokens that begin a message"""

if TYPE_CHECKING:
    from linnet.generate.chat import Conversation
    from linnet.generate.draft import Draft
    from linnet.model.config import ModelConfig
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import ChatTemplate, Tokenizer


def load(path: str | Path, *, checkpoint: str = "best", adapter: str | Path | None = None, device: str = "auto") -> LM:
    """The model of a run or of a model folder, with its tokenizer and chat template.

    Args:
        path: a run folder, or that of a model without a history, such as `linnet import` makes.
        checkpoint: "best" (lowest validation loss), "last", or a step.
        adapter: a folder with an adapter, which is merged into the checkpoint that it is for.
        device: "auto", "cpu", "cuda" or "mps".
    Raises:
        UserError: there is no run or no such checkpoint, a file in it is damaged, or the adapter is for others.
    """
    if adapter is not None:
        return _adapted(path, checkpoint, adapter, device)
    from linnet.run import Run
    from linnet.run.opened import opened

    found, where = opened(path), runtime.pick_device(device)
    model = found.load_model(checkpoint, where) if isinstance(found, Run) else found.load_model(device=where)
    return LM(model, found.tokenizer(), found.template(), name=found.path.name)


def _adapted(path: str | Path, checkpoint: str, adapter: str | Path, device: str) -> LM:
    """The model of a run or model folder with an adapter merged into it, and the vocabulary that this was trained with.

    Raises:
        UserError: they do not belong together, or a file is damaged.
    """
    from linnet.run import Run
    from linnet.run.adapter import AdapterFolder
    from linnet.run.model_folder import ModelFolder, read_tensors, ready
    from linnet.run.opened import opened
    from linnet.run.weights import weights_of

    found, base = AdapterFolder.open(adapter), opened(path)
    if isinstance(base, Run):
        weights = weights_of(found.checkpoint_of(base, checkpoint), base.path)
    else:
        found.check(str(path), base.weights_sha256)
        weights = read_tensors(base.weights_file)
    model = base.model_with(found.facts.merged(weights, found.tensors()), found.model_config(base.model_config()))
    beside = ModelFolder(found.path)
    return LM(ready(model, runtime.pick_device(device)), beside.tokenizer(), beside.template(), name=base.path.name)


def sampling_from(options: Mapping[str, Any]) -> Sampling:
    """`Sampling` from keyword arguments; `stop` may be one text or any sequence of texts.

    Raises:
        UserError: an unknown option, or a value outside what is allowed.
    """
    known = [field.name for field in fields(Sampling)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"unknown sampling option {name}; {hint}")
    values = dict(options)
    stop = values.get("stop", ())
    if stop is None or isinstance(stop, str):
        stop = () if stop is None else (stop,)
    values["stop"] = tuple(stop) if isinstance(stop, Sequence) else stop
    return Sampling(**values)


class LM:
    """A language model to use: it continues text, chats, and scores text.

    Every text is read as the beginning of a document, after the end-of-text token, as in training. Options of drawing
    (`temperature`, `top_k`, `seed`, ...) are the fields of `Sampling`.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, template: ChatTemplate | None = None, name: str = ""
    ) -> None:
        """
        Raises:
            UserError: the tokenizer has ids that the model does not know.
        """
        if tokenizer.vocab_size > model.config.vocab_size:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model only {model.config.vocab_size}: they are not "
                "from the same run"
            )
        self.model, self.tokenizer, self.template, self.name = model, tokenizer, template, name

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.model.config

    def __repr__(self) -> str:
        return f"LM({self.name!r}, vocab_size={self.config.vocab_size}, block_size={self.config.block_size})"

    def generate(self, prompt: str = "", **options: Any) -> str:
        """What follows `prompt`, without it: the pieces of `stream` joined. An empty prompt begins a document."""
        return "".join(self.stream(prompt, **options))

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Pieces of what follows `prompt`, as they become certain."""
        from linnet.generate.text import stream_text

        return stream_text(self.model, self.tokenizer, self._prompt(prompt), sampling_from(options))

    def samples(self, prompt: str = "", count: int = 1, **options: Any) -> list[str]:
        """`count` different continuations of one prompt; with a seed, the first is that of `generate`."""
        return self.continuations([prompt] * count, **options)

    def continuations(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """What follows each of `prompts`, generated together."""
        from linnet.generate.text import texts

        return texts(self.model, self.tokenizer, [self._prompt(text) for text in prompts], sampling_from(options))

    def chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
        """The assistant's reply to `messages`, each with a `role` (system, user, assistant) and `content`.

        Raises:
            UserError: the model has no chat template, there is no message, or the last is not the user's.
        """
        return "".join(self.stream_chat(messages, **options))

    def stream_chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Iterator[str]:
        """Pieces of the assistant's reply to `messages`."""
        from linnet.generate.chat import chat_prompt
        from linnet.generate.text import stream_text

        ids, system_length = chat_prompt(self._template(), self.tokenizer, messages)
        return stream_text(self.model, self.tokenizer, ids, sampling_from(options), system_length=system_length)

    def replies(self, conversations: Sequence[Sequence[Mapping[str, str]]], **options: Any) -> list[str]:
        """The assistant's reply to each of `conversations`, generated together."""
        from linnet.generate.chat import chat_prompt
        from linnet.generate.text import texts

        template = self._template()
        prompts = [chat_prompt(template, self.tokenizer, messages) for messages in conversations]
        ids, system_lengths = [ids for ids, _ in prompts], [length for _, length in prompts]
        return texts(self.model, self.tokenizer, ids, sampling_from(options), system_lengths=system_lengths)

    def conversation(self, system: str | None = None, **options: Any) -> Conversation:
        """A new `Conversation`, which remembers its messages and what was read of them."""
        from linnet.generate.chat import Conversation

        messages = [] if system is None else [{"role": "system", "content": system}]
        return Conversation(self.model, self.tokenizer, self._template(), sampling_from(options), messages)

    def draft(self, text: str = "", **options: Any) -> Draft:
        """A new `Draft` that begins with `text`: a text that you and the model write in turn."""
        from linnet.generate.draft import Draft

        return Draft(self.model, self.tokenizer, sampling_from(options), text)

    def score(self, text: str) -> dict[str, float]:
        """How well the model predicts `text`, read as the beginning of a document; its end is not scored.

        Returns:
            `loss` in nats per token, `perplexity`, `bits_per_byte`, `bits_per_char`, `accuracy` (share of tokens that
            were the likeliest), `tokens`.
        Raises:
            UserError: the text is empty.
        """
        from linnet.evaluate.by_document import score_text

        return score_text(self.model, self.tokenizer, text)

    def next_tokens(self, prompt: str = "", k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest next tokens after `prompt` and their probabilities, likeliest first, no filter applied.

        Special tokens appear by name; bytes that are only part of a character as numbers: `<E2 82>`.
        """
        from linnet.generate.context import visible
        from linnet.insight import predict

        if k < 1:
            raise UserError(f"k must be at least 1, got {k}")
        window = visible(self._prompt(prompt), 0, self.config.block_size)
        (found,) = predict(self.model, self.tokenizer, window, k, first=-1)
        return [(candidate.text, candidate.probability) for candidate in found.likeliest]

    def notes(self, prompt: str) -> list[str]:
        """Sentences on what the model cannot read of `prompt`: its beginning, where it is longer than the context, and
        characters that have no id of their own."""
        from linnet.generate.notes import prompt_notes

        return prompt_notes(self.tokenizer, prompt, len(self._prompt(prompt)), self.config.block_size)

    def begins_dialogues(self) -> bool:
        """Whether the model expects its documents to begin with a role more than with words: it learned dialogues."""
        return sum(share for name, share in self.next_tokens("", self.tokenizer.vocab_size) if name in ROLE_MARKS) > 0.5

    def _prompt(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise UserError(f"a prompt must be a text, got {type(text).__name__}")
        return [self.tokenizer.begin_of_text, *self.tokenizer.encode(text)]

    def _template(self) -> ChatTemplate:
        if self.template is None:
            raise UserError(
                f"{self.name or 'this model'} has no chat template: it was never shown dialogues; "
                "use generate, or train a run on dialogues"
            )
        return self.template
