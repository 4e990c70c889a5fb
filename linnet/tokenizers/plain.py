"""What characters and words share: tokens that are written as they read, and bytes for what has no id."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from linnet.errors import UserError
from linnet.settings import shown
from linnet.tokenizers.base import SPECIALS, Tokenizer
from linnet.tokenizers.hf_json import OPTIONS, file_document, names_of, refuse_what_changes_text, special_ids_of
from linnet.tokenizers.piece_cache import PackedIds, packed
from linnet.tokenizers.pretokenize import GPT2

REPLACEMENT = "\ufffd"
"""stands for every unseen character where a vocabulary has no bytes; Unicode's own character for that purpose"""

BYTES_AND_SPECIALS = 256 + len(SPECIALS)
"""the smallest vocabulary that can spell any text"""

_BYTE = re.compile("<0x([0-9A-F]{2})>")

_DECODER = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}


class PlainTokenizer(Tokenizer):
    """A vocabulary whose tokens are written as they read.

    A character without an id is spelled by the ids of its UTF-8 bytes, so that any text comes back. An ASCII
    character *is* a byte: where the vocabulary knows it, its byte has its name ("a" instead of "<0x61>"), so it
    takes no second id, and the names tell which characters were seen. A vocabulary without bytes has the id of
    U+FFFD for all that is unseen.

    Args:
        names: the tokens by id, as `tokenizer.json` spells them: text as itself, a byte as `<0x0A>`.
        special_ids: names of the special tokens -> ids.
    Raises:
        ValueError: a name is there twice, only some bytes are there, or there are neither bytes nor U+FFFD.
    """

    CUT: ClassVar[dict[str, Any] | None]
    """how `tokenizer.json` says that the text is cut into pieces"""
    WHOLE_PIECES: ClassVar[bool]
    """whether a piece can be a token"""

    def __init__(self, names: Sequence[str], special_ids: Mapping[str, int]) -> None:
        super().__init__([_bytes_of(name) for name in names], special_ids)
        self._names = tuple(names)
        special = set(special_ids.values())
        self._id_of = {name: id for id, name in enumerate(names) if id not in special}
        if len(self._id_of) + len(special) != len(names):
            raise ValueError("a token is there twice")
        for name in special_ids:
            if len(GPT2.split(name)) == 1:
                raise ValueError(f"its special token {name!r} cannot be told from text")
        self.byte_fallback = any(map(_BYTE.fullmatch, self._id_of))
        byte_ids = self._find_bytes() if self.byte_fallback else []
        if self.byte_fallback:
            # the bytes that continue a character are not counted, so that each character counts once
            begins = [byte for byte in range(256) if byte & 0xC0 != 0x80]
            self.unseen_ids = frozenset(self._id_of[byte_name(b)] for b in begins if byte_name(b) in self._id_of)
        elif REPLACEMENT in self._id_of:
            self.unseen_ids = frozenset({self._id_of[REPLACEMENT]})
        else:
            raise ValueError("it has no ids for characters that it does not know: neither 256 bytes nor U+FFFD")
        known = {name: packed((id,)) for name, id in self._id_of.items() if len(name) == 1}
        self._characters = _Characters(known, byte_ids, self._id_of.get(REPLACEMENT, -1))
        self._ascii_is_bytes = all(self._characters[chr(byte)] == packed((byte,)) for byte in range(128))

    def _find_bytes(self) -> list[int]:
        found = [self._id_of.get(byte_name(byte)) for byte in range(256)]
        for byte in range(128):
            found[byte] = self._id_of.get(chr(byte), found[byte])
        ids = [id for id in found if id is not None]
        if len(ids) < 256:
            raise ValueError(f"{256 - len(ids)} of the 256 bytes have no token")
        return ids

    def _extended(self, added: Sequence[str], special_ids: Mapping[str, int]) -> Self:
        return type(self)((*self._names, *added), special_ids)

    def document(self) -> dict[str, Any]:
        """The content of `tokenizer.json`: a BPE without merges in the format of Hugging Face `tokenizers`."""
        return file_document(
            self._names,
            self.special_ids,
            pre_tokenizer=self.CUT,
            decoder=_DECODER,
            unk_token=None if self.byte_fallback else REPLACEMENT,
            byte_fallback=self.byte_fallback,
            ignore_merges=self.WHOLE_PIECES,
        )

    @classmethod
    def from_document(cls, document: Any, name: str = "tokenizer.json") -> Self:
        """The tokenizer that the JSON value of a `tokenizer.json` describes; `name` is what errors call it.

        Raises:
            UserError: damaged, or of a kind that would encode differently here.
        """
        try:
            tokenizer = cls(*_read(document))
            cls._refuse_other_kinds(document, tokenizer)
        except (KeyError, TypeError, AttributeError) as error:
            fault = f"something is missing or out of place ({type(error).__name__}: {shown(error)})"
            raise UserError(f"cannot use {name} as a tokenizer: {fault}") from None
        except ValueError as error:
            raise UserError(f"cannot use {name} as a tokenizer: {shown(error)}") from None
        return tokenizer

    @classmethod
    def _refuse_other_kinds(cls, document: Any, tokenizer: Self) -> None:
        refuse_what_changes_text(document, OPTIONS)
        ours = tokenizer.document()
        for part in ("pre_tokenizer", "decoder"):
            if document[part] != ours[part]:
                raise ValueError(f"it does not treat text as a vocabulary of {cls.__name__} does ({part})")
        for option in ("unk_token", "byte_fallback", "ignore_merges", "fuse_unk"):
            if (document["model"].get(option) or None) != (ours["model"][option] or None):
                raise ValueError(f"its BPE has {option} = {document['model'].get(option)!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._names, self.special_ids)


class _Characters(PackedIds):
    """Ids of each character; a lookup of any character succeeds."""

    def __init__(self, known: Mapping[str, bytes], byte_ids: list[int], unknown: int) -> None:
        super().__init__(known)
        self.byte_ids = byte_ids
        self.unknown = unknown

    def __missing__(self, character: str) -> bytes:
        data = character.encode("utf-8")
        self[character] = packed([self.byte_ids[byte] for byte in data] if self.byte_ids else (self.unknown,))
        return self[character]


def byte_name(byte: int) -> str:
    """How `tokenizer.json` spells a byte: 10 is "<0x0A>"."""
    return f"<0x{byte:02X}>"


def byte_names(seen: Iterable[str]) -> list[str]:
    """Names of the ids 0-255: those of the ASCII characters that were seen are the characters themselves."""
    known = {character for character in seen if character.isascii()}
    return [chr(byte) if chr(byte) in known else byte_name(byte) for byte in range(256)]


def complete(names: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """`names` with all five special tokens after them, and the ids of those."""
    return [*names, *SPECIALS], {name: len(names) + index for index, name in enumerate(SPECIALS)}


def most_frequent(counts: Mapping[str, int], most: int) -> list[str]:
    """The `most` most frequent of `counts`, in that order; of equally frequent ones the smaller."""
    return sorted(counts, key=lambda text: (-counts[text], text))[: max(most, 0)]


def _bytes_of(name: str) -> bytes:
    byte = _BYTE.fullmatch(name)
    return bytes.fromhex(byte[1]) if byte else name.encode("utf-8")


def _read(document: Any) -> tuple[list[str], dict[str, int]]:
    """Names by id and special ids."""
    model = document["model"]
    if model["type"] != "BPE" or model["merges"]:
        raise ValueError("it is neither a byte-level BPE nor a vocabulary of characters or words")
    special_ids = special_ids_of(document)
    return names_of(model["vocab"], special_ids), special_ids
