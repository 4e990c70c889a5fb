"""Hugging Face's `tokenizer.json`: byte-level BPE to and from it, and what the other vocabularies share of it."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

OPTIONS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
"""of the model, which no class here has; `byte_fallback` and `ignore_merges` belong to characters and words"""


class Vocabulary(NamedTuple):
    """What a byte-level BPE is made of."""

    tokens: list[bytes]
    """by id, special tokens included"""
    merges: list[tuple[int, int]]
    """pairs of ids by rank"""
    special_ids: dict[str, int]


@cache
def letters() -> str:
    """The 256 printable characters that stand for the bytes 0-255. Source: openai/gpt-2, src/encoder.py."""
    spare = iter(range(256, 512))
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    return "".join(chr(byte if byte in printable else next(spare)) for byte in range(256))


@cache
def _byte_of_letter() -> dict[str, int]:
    return {letter: byte for byte, letter in enumerate(letters())}


def spell(data: bytes) -> str:
    """`data` in letters: "Ġthe" for " the"."""
    table = letters()
    return "".join([table[byte] for byte in data])


def unspell(text: str) -> bytes:
    """The bytes that `spell` wrote as `text`.

    Raises:
        ValueError: a character is not one of the 256 letters.
    """
    try:
        return bytes([_byte_of_letter()[letter] for letter in text])
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} in the token {text!r} stands for no byte") from None


def to_document(
    tokens: Sequence[bytes], merges: Sequence[tuple[int, int]], special_ids: Mapping[str, int]
) -> dict[str, Any]:
    """The JSON value that Hugging Face `tokenizers` reads; its ids and ours are the same numbers."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    spelled = [spell(token) for token in tokens]
    pairs = [(spelled[left], spelled[right]) for left, right in merges]
    return file_document(spelled, special_ids, merges=pairs, pre_tokenizer=byte_level, decoder=byte_level)


def file_document(
    names: Sequence[str],
    special_ids: Mapping[str, int],
    *,
    pre_tokenizer: Any,
    decoder: Any,
    merges: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> dict[str, Any]:
    """All of a `tokenizer.json`.

    Args:
        names: the tokens by id, as the file spells them.
        pre_tokenizer, decoder: how the text is cut, and how tokens join.
        options: of the model, where they are not the usual ones (`byte_fallback=True`).
    """
    added = [
        {
            "id": id,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name, id in sorted(special_ids.items(), key=lambda item: item[1])
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: id for id, token in enumerate(names)},
        # "left right" in one string: versions of `tokenizers` before 0.20 read nothing else
        "merges": [f"{left} {right}" for left, right in merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model | options,
    }


def from_document(document: Any) -> Vocabulary:
    """The vocabulary in a `tokenizer.json`.

    Raises:
        ValueError: damaged, or a kind of tokenizer that would encode differently here; says which.
    """
    try:
        model = document["model"]
        _refuse_other_kinds(document, model)
        added = special_ids_of(document)
        tokens = table_of(model["vocab"], added)
        merges = [_pair_of(entry, model["vocab"]) for entry in model["merges"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"something is missing or out of place ({type(error).__name__}: {error})") from None
    return Vocabulary(tokens, merges, added)


def special_ids_of(document: Any) -> dict[str, int]:
    """Names of the special tokens -> ids, as the file says.

    Raises:
        ValueError: a token was added that is not special: it would be found in plain text.
    """
    if not all(entry["special"] for entry in document["added_tokens"]):
        raise ValueError("it has added tokens that are not special")
    return {entry["content"]: entry["id"] for entry in document["added_tokens"]}


def table_of(vocabulary: Mapping[str, int], special_ids: Mapping[str, int]) -> list[bytes]:
    """The bytes of every id, from spelled tokens and special names.

    Raises:
        ValueError: an id is missing or used twice, or a token is not written in byte letters.
    """
    special = set(special_ids.values())
    names = names_of(vocabulary, special_ids)
    return [name.encode() if id in special else unspell(name) for id, name in enumerate(names)]


def names_of(vocabulary: Mapping[str, int], special_ids: Mapping[str, int]) -> list[str]:
    """Every id's token as the file spells it, a special one by its name.

    Raises:
        ValueError: an id is missing, used twice, or no whole number.
    """
    ids = {**vocabulary, **special_ids}
    for name, id in ids.items():
        if type(id) is not int:
            raise ValueError(f"the id of {name!r} is {id!r}, not a whole number")
    by_id = {id: name for name, id in ids.items()}
    if len(by_id) != len(ids):
        raise ValueError("an id is used twice")
    if sorted(by_id) != list(range(len(by_id))):
        raise ValueError(f"its {len(by_id)} ids are not 0 to {len(by_id) - 1}")
    return [by_id[id] for id in range(len(by_id))]


def _pair_of(entry: Any, vocabulary: Mapping[str, int]) -> tuple[int, int]:
    parts = entry.split(" ") if isinstance(entry, str) else entry
    if len(parts) != 2:
        raise ValueError(f"the merge {entry!r} is not two tokens")
    return vocabulary[parts[0]], vocabulary[parts[1]]


def refuse_what_changes_text(document: Any, options: Sequence[str]) -> None:
    """Raises a ValueError where the file normalizes, adds tokens, or uses one of `options` of the model."""
    if document.get("normalizer") is not None:
        raise ValueError("it changes the text before encoding (normalizer)")
    refuse_what_adds_tokens(document.get("post_processor"))
    for option in options:
        if document["model"].get(option):
            raise ValueError(f"its BPE uses {option}")


def refuse_what_adds_tokens(after: Any) -> None:
    """Raises a ValueError where a post-processor puts tokens around those of the text; other libraries write some that
    do not when they save a file again: `ByteLevel`, a template of the text alone, or a sequence of such."""
    if after is None:
        return
    kind = after["type"]
    if kind == "Sequence":
        for step in after["processors"]:
            refuse_what_adds_tokens(step)
    elif kind == "TemplateProcessing":
        parts = after.get("single", [])
        if len(parts) != 1 or "Sequence" not in parts[0]:
            names = ", ".join(part["SpecialToken"]["id"] for part in parts if "SpecialToken" in part)
            raise ValueError(f"it adds tokens of its own (post_processor {kind}{names and f': {names}'})")
    elif kind != "ByteLevel":
        raise ValueError(f"it adds tokens of its own (post_processor {kind})")


def _refuse_other_kinds(document: Any, model: Any) -> None:
    kind = model["type"]
    if kind != "BPE":
        raise ValueError(f"its model is {kind}, and only byte-level BPE is read")
    before = document["pre_tokenizer"] or {}
    as_gpt2 = before.get("use_regex", True) and not before.get("add_prefix_space", True)
    if before.get("type") != "ByteLevel" or not as_gpt2:
        raise ValueError("it does not split text as GPT-2 does (pre_tokenizer)")
    if (document["decoder"] or {}).get("type") != "ByteLevel":
        raise ValueError("it does not turn tokens into bytes as GPT-2 does (decoder)")
    refuse_what_changes_text(document, (*OPTIONS, "byte_fallback", "ignore_merges"))
