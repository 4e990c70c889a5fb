"""The distance to the best possible model: the built-in corpus knows how likely each of its documents is.

Compared document by document: the model reads the token that ends the document before, then predicts every token of
this one, its end included; the source says -log P of the same document under the grammar that wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from linnet.errors import UserError
from linnet.evaluate.by_document import score_documents

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import ChatTemplate, Tokenizer

Message = Mapping[str, str]
Content = str | list[dict[str, str]]
"""a story's text, or a dialogue's messages"""

ROLE_MARKS = {"<|system|>": "system", "<|user|>": "user", "<|assistant|>": "assistant"}
KINDS = ("stories", "dialogues")


class Compared(NamedTuple):
    """One document, judged by both."""

    kind: str
    characters: int
    model_nats: float
    source_nats: float


def document_content(ids: Sequence[int], tokenizer: Tokenizer, template: ChatTemplate | None) -> Content | None:
    """What a prepared document says: the inverse of how it was encoded. `ids` may end with the end-of-text token.

    None for ids that cannot be read back: a dialogue whose template marks its messages in another way than `<|role|>`
    before and `<|end|>` after.
    """
    end = tokenizer.end_of_text
    body = list(ids[:-1]) if ids and ids[-1] == end else list(ids)
    specials = set(tokenizer.special_ids.values())
    if not specials.intersection(body):
        return tokenizer.decode(body)
    roles = {tokenizer.special_ids[mark]: role for mark, role in ROLE_MARKS.items() if mark in tokenizer.special_ids}
    closing = tokenizer.special_ids.get("<|end|>")
    messages: list[dict[str, str]] = []
    place = 0
    while place < len(body):
        if body[place] not in roles or closing not in body[place:]:
            return None
        stop = body.index(closing, place)
        content = tokenizer.decode(body[place + 1 : stop])
        messages.append({"role": roles[body[place]], "content": content})
        place = stop + 1
    if template is None or template.encode(messages, tokenizer)[0] not in (body, [*body, end]):
        return None
    return messages


def compare_with_source(
    model: Transformer,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    documents: Iterable[Sequence[int]],
    source_nats: Callable[[Content], float | None],
    *,
    limit: int | None = None,
    batch_size: int = 32,
) -> dict[str, Any]:
    """The model's bits per character beside the source's, over documents of the built-in corpus.

    Args:
        documents: the ids of each, with or without its end-of-text token.
        source_nats: -log P of a document under the grammar, None where it has not exactly one derivation.
        limit: compare at most so many documents, the first.
    Returns:
        `documents` compared, `skipped` (without exactly one derivation), `model_bits_per_char`, `source_bits_per_char`,
        their difference `gap_bits_per_char` and `gap_relative` (difference over source), `characters`; the same for the
        `stories` and `dialogues` among them.
    Raises:
        UserError: no document can be compared.
    """
    end = tokenizer.end_of_text
    prepared: list[list[int]] = []
    known: list[tuple[str, int, float]] = []
    skipped = 0
    for ids in documents:
        if limit is not None and len(prepared) == limit:
            break
        content = document_content(ids, tokenizer, template)
        nats = None if content is None else source_nats(content)
        if content is None or nats is None:
            skipped += 1
            continue
        body = ids[:-1] if ids[-1] == end else ids
        prepared.append([end, *body, end])
        known.append((*_measure(content), nats))
    if not prepared:
        raise UserError(
            f"none of {skipped} documents is in the built-in grammar; the comparison needs data from builtin: and the "
            "settings it was made with"
        )
    scores = score_documents(model, prepared, batch_size=batch_size)
    rows = [
        Compared(kind, characters, score.nats, nats)
        for (kind, characters, nats), score in zip(known, scores, strict=True)
    ]
    by_kind = {kind: [row for row in rows if row.kind == kind] for kind in KINDS}
    return {
        **_summary(rows),
        "skipped": skipped,
        **{kind: _summary(chosen) for kind, chosen in by_kind.items() if chosen},
    }


def _measure(content: Content) -> tuple[str, int]:
    """Kind and characters; of a dialogue the messages' characters, without the template's marks."""
    if isinstance(content, str):
        return "stories", len(content)
    return "dialogues", sum(len(message["content"]) for message in content)


def _summary(rows: list[Compared]) -> dict[str, Any]:
    characters = sum(row.characters for row in rows)
    model = math.fsum(row.model_nats for row in rows) / math.log(2) / characters
    source = math.fsum(row.source_nats for row in rows) / math.log(2) / characters
    return {
        "documents": len(rows),
        "characters": characters,
        "model_bits_per_char": model,
        "source_bits_per_char": source,
        "gap_bits_per_char": model - source,
        "gap_relative": (model - source) / source if source else math.inf,
    }
