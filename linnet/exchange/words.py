"""The vocabulary and the chat template of a published model."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.files import read_object, read_text
from linnet.settings import shown
from linnet.tokenizers import Tokenizer
from linnet.tokenizers.bpe import BPETokenizer

if TYPE_CHECKING:
    from linnet.exchange.published import Published
    from linnet.tokenizers import ChatTemplate

DATES = "strftime_now"
"""what a template calls to write today's date"""

NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
"""special tokens that templates call by their part"""


def vocabulary(model: Published) -> BPETokenizer:
    """The tokenizer of a published model.

    Raises:
        UserError: there is none, or it encodes otherwise than Linnet can.
    """
    file = model.folder / "tokenizer.json"
    if not file.exists() and (model.folder / "tokenizer.model").exists():
        raise UserError(
            f"{model.name} has a SentencePiece vocabulary (tokenizer.model); Linnet reads byte-level BPE, in "
            "tokenizer.json"
        )
    if not file.exists() and not (model.folder / "vocab.json").exists():
        raise UserError(f"{model.name} has no tokenizer.json, which holds its vocabulary")
    if file.exists():
        found = read_object(file).get("model")
        kind = found if isinstance(found, dict) else {}
        if kind.get("type") == "Unigram" or kind.get("byte_fallback"):
            raise UserError(f"{model.name} has a SentencePiece vocabulary; Linnet reads byte-level BPE")
    elif model.settings().get("model_type") != "gpt2":
        raise UserError(f"{model.name} has no tokenizer.json; vocab.json alone does not say how its text is split")
    try:
        tokenizer = Tokenizer.load(model.folder)
    except UserError as error:
        raise UserError(str(error).replace(str(model.folder), model.name)) from None
    if not isinstance(tokenizer, BPETokenizer):
        raise UserError(f"{model.name} has a vocabulary of characters or words; Linnet imports byte-level BPE")
    return tokenizer


def chat_template(model: Published, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template of a published model, or None where it has none.

    Raises:
        UserError: what Linnet would encode by it is not what `transformers` renders.
    """
    from linnet.tokenizers.template import PROBE, ChatTemplate

    source = _source(model)
    if source is None:
        return None
    if DATES in source:
        raise _refused(model, f"it writes today's date ({DATES}), so that what it says changes from day to day")
    try:
        template = ChatTemplate(_with_tokens(model, source))
        template.encode(PROBE, tokenizer)
    except UserError as error:
        raise _refused(model, str(error)) from None
    return template


def _refused(model: Published, why: str) -> UserError:
    return UserError(f"the chat template of {model.name}: {why}; `--template none` imports the model without it")


def _source(model: Published) -> str | None:
    """The template as the library itself would find it: a file of its own, else in the settings of the tokenizer."""
    if (file := model.folder / "chat_template.jinja").exists():
        return read_text(file)
    for name in ("chat_template.json", "tokenizer_config.json"):
        if not (model.folder / name).exists():
            continue
        found = read_object(model.folder / name).get("chat_template")
        if isinstance(found, list):  # several, each with a name
            named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
            found = named.get("default")
        if isinstance(found, str):
            return found
        if found is not None:
            raise UserError(f"{name} of {model.name} has a chat_template that is no text; the file is damaged")
    return None


def _with_tokens(model: Published, source: str) -> str:
    """`source` after what it calls special tokens by: a template of Linnet's knows them by their names alone."""
    file = model.folder / "tokenizer_config.json"
    settings = read_object(file) if file.exists() else {}
    lines = []
    for name in NAMED_TOKENS:
        if not re.search(rf"\b{name}\b", source):
            continue
        token: Any = settings.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        lines.append(f"{{% set {name} = {json.dumps(text, ensure_ascii=False) if text is not None else 'none'} %}}\n")
    return "".join(lines) + source


def check_stops(model: Published, tokenizer: Tokenizer) -> None:
    """Compares the ids that end an answer with the special tokens, each of which ends one here.

    Raises:
        UserError: one of them is an ordinary token.
    """
    special = set(tokenizer.special_ids.values())
    for name in ("config.json", "generation_config.json"):
        if not (model.folder / name).exists():
            continue
        found = read_object(model.folder / name).get("eos_token_id")
        for id in found if isinstance(found, list) else [found]:
            # an id beyond the vocabulary stands for nothing that could be said
            if type(id) is int and id < tokenizer.vocab_size and id not in special:
                raise UserError(
                    f"{model.name} ends its answers with the token {shown(repr(tokenizer.piece(id)))} (eos_token_id of "
                    f"{name}), which is no special token of its vocabulary; Linnet ends them with special tokens"
                )
