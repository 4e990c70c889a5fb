"""Hugging Face's `tokenizer.json`: byte-level BPE to and from it, and what the other vocabularies share of it."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from linnet.tokenizers.core import Rules
from linnet.tokenizers.patterns import Published, byte_level, pattern_document, pattern_of
from linnet.tokenizers.pretokenize import GPT2, Pattern

OPTIONS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
"""of the model, which no class here has; `byte_fallback` belongs to characters and words"""

NEEDED = frozenset(b"\n" + bytes(range(0x20, 0x7F)))
"""bytes that every vocabulary has a token for; published ones lack some that their texts hardly held"""


class Vocabulary(NamedTuple):
    """What a byte-level BPE is made of."""

    tokens: Sequence[bytes]
    """by id, special tokens included"""
    merges: Sequence[tuple[int, int]]
    """pairs of ids by rank"""
    special_ids: Mapping[str, int]
    """names of the special tokens -> ids"""
    pattern: Pattern = GPT2
    """how text is cut into pieces"""
    whole_pieces: bool = False
    """whether a piece that is a token is never put together by merges; several merges may make one token then"""
    begin_name: str = ""
    """the special token that is put before a text; empty where that is the one between documents"""


def rules_of(vocabulary: Vocabulary) -> Rules:
    """The rules of a vocabulary, which is known to be without faults afterwards.

    Raises:
        ValueError: a byte or the product of a merge is missing, a token is there twice, or a merge uses what is only
            made later.
    """
    tokens, merges, pattern = vocabulary.tokens, vocabulary.merges, vocabulary.pattern
    special = set(vocabulary.special_ids.values())
    id_of = {token: id for id, token in enumerate(tokens) if id not in special}
    if len(id_of) + len(special) != len(tokens):
        raise ValueError("a token is there twice")
    lost = bytes(byte for byte in range(256) if bytes([byte]) not in id_of)
    if not NEEDED.isdisjoint(lost):
        raise ValueError(f"it is not byte-level: {len(lost)} of the 256 bytes have no token")
    byte_ids = [id_of.get(bytes([byte]), -1) for byte in range(256)]
    made: list[int] = []
    ready = set(byte_ids)
    for left, right in merges:
        product = id_of.get(tokens[left] + tokens[right])
        if not vocabulary.whole_pieces and not {left, right} <= ready:
            raise ValueError(f"merge {len(made) + 1} uses a token that no earlier merge makes")
        if product is None or (product in ready and not vocabulary.whole_pieces):
            fault = "not in the vocabulary" if product is None else "there already"
            raise ValueError(f"merge {len(made) + 1} makes a token that is {fault}")
        made.append(product)
        ready.add(product)
    added = pattern.added if isinstance(pattern, Published) else ()
    whole = id_of if vocabulary.whole_pieces else {name.encode(): id_of[name.encode()] for name in added}
    return Rules(byte_ids, merges, made, [len(token) for token in tokens], pattern, whole, lost)


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


def to_document(vocabulary: Vocabulary) -> dict[str, Any]:
    """The JSON value that Hugging Face `tokenizers` reads; its ids and ours are the same numbers."""
    tokens, pattern = vocabulary.tokens, vocabulary.pattern
    spelled = [spell(token) for token in tokens]
    published = pattern if isinstance(pattern, Published) else Published("", "", "")
    added = {name: tokens.index(name.encode()) for name in published.added}
    document = file_document(
        spelled,
        vocabulary.special_ids,
        added=added,
        merges=[(spelled[left], spelled[right]) for left, right in vocabulary.merges],
        pre_tokenizer=pattern_document(pattern),
        decoder=byte_level(True),
        ignore_merges=vocabulary.whole_pieces,
    )
    if published.nfc:
        document["normalizer"] = {"type": "NFC"}
    if begin := vocabulary.begin_name:
        document["post_processor"] = beginning(begin, vocabulary.special_ids[begin])
    return document


def beginning(name: str, id: int) -> dict[str, Any]:
    """The post-processor that puts one special token before a text."""
    token, texts = {"SpecialToken": {"id": name, "type_id": 0}}, [{"Sequence": {"id": n, "type_id": 0}} for n in "AB"]
    return {
        "type": "TemplateProcessing",
        "single": [token, texts[0]],
        "pair": [token, texts[0], token, texts[1]],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}},
    }


def file_document(
    names: Sequence[str],
    special_ids: Mapping[str, int],
    *,
    pre_tokenizer: Any,
    decoder: Any,
    added: Mapping[str, int] | None = None,
    merges: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> dict[str, Any]:
    """All of a `tokenizer.json`.

    Args:
        names: the tokens by id, as the file spells them.
        added: tokens that are not special and yet found before the text is cut -> ids.
        pre_tokenizer, decoder: how the text is cut, and how tokens join.
        options: of the model, where they are not the usual ones (`byte_fallback=True`).
    """
    special = [
        {
            "id": id,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": name in special_ids,
        }
        for name, id in sorted({**special_ids, **(added or {})}.items(), key=lambda item: item[1])
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
        "added_tokens": special,
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
        special_ids, added = added_of(document)
        names = names_of(model["vocab"], {**special_ids, **added})
        known = {*special_ids.values(), *added.values()}
        tokens = [name.encode() if id in known else unspell(name) for id, name in enumerate(names)]
        merges = [_pair_of(entry, model["vocab"]) for entry in model["merges"]]
        pattern = pattern_of(document["pre_tokenizer"])
        nfc = (document.get("normalizer") or {}).get("type") == "NFC"
        if nfc or added:
            pattern = Published(pattern.name, pattern.pieces, pattern.borders, tuple(added), nfc)
        begin = beginning_of(document.get("post_processor"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"something is missing or out of place ({type(error).__name__}: {error})") from None
    if model.get("unk_token") and len({token for token in tokens if len(token) == 1}) < 256:
        raise ValueError(f"it has {model['unk_token']!r} for bytes without a token, and Linnet would leave them out")
    if begin and begin not in special_ids:
        raise ValueError(f"it puts {begin} before a text, which is no special token of its own")
    return Vocabulary(tokens, merges, special_ids, pattern, bool(model.get("ignore_merges")), begin)


def added_of(document: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Names of the special tokens -> ids, and of those that were added and are not special.

    Raises:
        ValueError: a token that is not special takes spaces around it, or stands for whole words alone.
    """
    special: dict[str, int] = {}
    others: dict[str, int] = {}
    for entry in document["added_tokens"]:
        if entry["special"]:
            special[entry["content"]] = entry["id"]
            continue
        options = [name for name in ("single_word", "lstrip", "rstrip") if entry.get(name)]
        if entry.get("normalized") and document.get("normalizer"):
            options.append("normalized")
        if options:
            raise ValueError(f"its added token {entry['content']!r} is not special and has {options[0]}")
        others[entry["content"]] = entry["id"]
    return special, others


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
    if begin := beginning_of(document.get("post_processor")):
        raise ValueError(f"it adds tokens of its own (post_processor TemplateProcessing: {begin})")
    refuse_options(document["model"], options)


def refuse_options(model: Any, options: Sequence[str]) -> None:
    """Raises a ValueError where the model uses one of `options`."""
    for option in options:
        if model.get(option):
            raise ValueError(f"its BPE uses {option}")


def beginning_of(after: Any) -> str:
    """The special token that a post-processor puts before a text; empty where it puts none.

    Other libraries write some that put nothing anywhere: `ByteLevel`, a template of the text alone, or a sequence of
    such.

    Raises:
        ValueError: it puts tokens elsewhere, or several.
    """
    kind = "ByteLevel" if after is None else after["type"]
    if kind == "ByteLevel":
        return ""
    if kind == "Sequence":
        found = [name for step in after["processors"] if (name := beginning_of(step))]
        if len(found) > 1:
            raise ValueError(f"it adds tokens of its own (post_processor {kind}: {', '.join(found)})")
        return found[0] if found else ""
    parts = after.get("single", []) if kind == "TemplateProcessing" else []
    names = [part["SpecialToken"]["id"] for part in parts if "SpecialToken" in part]
    if not parts or "Sequence" not in parts[-1] or len(parts) != len(names) + 1 or len(names) > 1:
        named = f": {', '.join(names)}" if names else ""
        raise ValueError(f"it adds tokens of its own (post_processor {kind}{named})")
    return names[0] if names else ""


def _refuse_other_kinds(document: Any, model: Any) -> None:
    kind = model["type"]
    if kind != "BPE":
        raise ValueError(f"its model is {kind}, and only byte-level BPE is read")
    if (document["decoder"] or {}).get("type") != "ByteLevel":
        raise ValueError("it does not turn tokens into bytes as GPT-2 does (decoder)")
    changes = document.get("normalizer")
    if changes is not None and changes != {"type": "NFC"}:
        raise ValueError(f"it changes the text before encoding (normalizer {changes.get('type')})")
    refuse_options(model, (*OPTIONS, "byte_fallback"))
