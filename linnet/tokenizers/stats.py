"""What a vocabulary does to a text, in numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from linnet.tokenizers.base import Tokenizer
from linnet.tokenizers.pieces import only_unseen, piece_text


def statistics(tokenizer: Tokenizer, documents: Iterable[Iterable[str]], top: int = 20) -> dict[str, Any]:
    """Counts and ratios of the text under this vocabulary, ready for JSON; memory does not grow with the text.

    Args:
        documents: each in chunks, cut anywhere; no token reaches from one into the next.
        top: how many of the longest and of the most frequent tokens to list.
    Returns:
        bytes, characters, tokens; bytes_per_token, chars_per_token (0 for an empty text); vocab_size, vocab_used,
        vocab_used_fraction; longest_tokens (of those that occur) and most_frequent_tokens, as lists of
        {id, text, bytes, count}; token_lengths, {bytes of a token: how often tokens of that length occur};
        unseen_characters, how many of the text have no id of their own, and unseen, which ones, as {text, count}.
    Raises:
        UserError: the text holds a lone surrogate.
    """
    sizes = {"bytes": 0, "characters": 0}
    characters: Counter[str] = Counter()

    def measured(chunks: Iterable[str]) -> Iterator[str]:
        for chunk in chunks:
            sizes["characters"] += len(chunk)
            sizes["bytes"] += len(chunk.encode("utf-8", errors="surrogatepass"))
            if tokenizer.unseen_ids or tokenizer.lost_bytes:
                characters.update(chunk)
            yield chunk

    counted = np.zeros(tokenizer.vocab_size, np.int64)
    for chunks in documents:
        for ids in tokenizer.encode_iter(measured(chunks)):
            np.add.at(counted, ids, 1)  # unlike bincount, no work over the whole vocabulary for each short document
    counts = Counter({id: int(counted[id]) for id in np.flatnonzero(counted).tolist()})
    tokens = counts.total()
    lengths: Counter[int] = Counter()
    for id, count in counts.items():
        lengths[len(tokenizer.token_bytes(id))] += count

    def described(id: int) -> dict[str, Any]:
        data = tokenizer.token_bytes(id)
        return {"id": id, "text": piece_text(data), "bytes": len(data), "count": counts[id]}

    unseen = only_unseen(tokenizer, characters)
    unseen.sort(key=lambda letter: (-characters[letter], letter))
    by_length = sorted(counts, key=lambda id: (-len(tokenizer.token_bytes(id)), id))
    by_count = sorted(counts, key=lambda id: (-counts[id], id))
    return {
        **sizes,
        "tokens": tokens,
        "bytes_per_token": sizes["bytes"] / tokens if tokens else 0.0,
        "chars_per_token": sizes["characters"] / tokens if tokens else 0.0,
        "vocab_size": tokenizer.vocab_size,
        "vocab_used": len(counts),
        "vocab_used_fraction": len(counts) / tokenizer.vocab_size,
        "longest_tokens": [described(id) for id in by_length[:top]],
        "most_frequent_tokens": [described(id) for id in by_count[:top]],
        "token_lengths": dict(sorted(lengths.items())),
        "unseen_characters": sum(counts[id] for id in tokenizer.unseen_ids)
        + (sum(characters[letter] for letter in unseen) if tokenizer.lost_bytes else 0),
        "unseen": [{"text": letter, "count": characters[letter]} for letter in unseen[:top]],
    }
