"""GPT-2's vocabulary, as OpenAI and tiktoken publish it."""

import base64
import binascii
from pathlib import Path

from linnet.errors import UserError
from linnet.files import read_json, regular
from linnet.settings import shown
from linnet.tokenizers.bpe import BPETokenizer
from linnet.tokenizers.core import merge
from linnet.tokenizers.hf_json import Vocabulary, table_of
from linnet.tokenizers.token_table import END_OF_TEXT

_OTHER_RANKS = {100_256: "cl100k_base", 199_998: "o200k_base"}
"""published rank files by their number of tokens. Source: openai/tiktoken, tiktoken_ext/openai_public.py"""


def load_gpt2(path: str | Path) -> BPETokenizer:
    """GPT-2's vocabulary with its own ids, from `vocab.json` and `merges.txt` or a tiktoken rank file.

    Args:
        path: the folder that holds the two, or the rank file.
    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        return BPETokenizer(*read_gpt2(Path(path)))
    except ValueError as error:
        raise UserError(f"cannot use {path} as a GPT-2 vocabulary: {shown(error)}") from None


def read_gpt2(path: Path) -> Vocabulary:
    """The vocabulary in a folder with `vocab.json` and `merges.txt`, or in a tiktoken rank file.

    Raises:
        UserError: a file is missing or unreadable.
        ValueError: a file is damaged; says how.
    """
    return _from_folder(path) if path.is_dir() else _from_ranks(path)


def _from_folder(folder: Path) -> Vocabulary:
    vocabulary = read_json(folder / "vocab.json")
    if not isinstance(vocabulary, dict) or END_OF_TEXT not in vocabulary:
        raise ValueError(f"vocab.json is not a vocabulary with {END_OF_TEXT}")
    special_ids = {END_OF_TEXT: vocabulary[END_OF_TEXT]}
    merges: list[tuple[int, int]] = []
    for number, line in enumerate(_read_text(folder / "merges.txt").split("\n"), 1):
        # only the version line is a comment, and not every file has it: "# #" and "## ##" are merges
        if not line or (number == 1 and line.startswith("#version:")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not vocabulary.keys() >= set(parts):
            raise ValueError(f"line {number} of merges.txt is not two tokens of vocab.json: {line!r}")
        merges.append((vocabulary[parts[0]], vocabulary[parts[1]]))
    return Vocabulary(table_of(vocabulary, special_ids), merges, special_ids)


def _from_ranks(file: Path) -> Vocabulary:
    """A rank file has no merges: a token's two parts are what the earlier ranks leave of its bytes. Nor does it say how
    the text is split, so files of vocabularies that are known to split otherwise are refused."""
    tokens: list[bytes] = []
    for number, line in enumerate(_read_text(file).splitlines()):
        try:
            spelled, rank = line.split(" ")
            token = base64.b64decode(spelled, validate=True)
            if int(rank) != number:
                raise ValueError
        except (ValueError, binascii.Error):
            raise ValueError(f"line {number + 1} is not a token in base64 and its rank {number}") from None
        tokens.append(token)
    if len(tokens) in _OTHER_RANKS:
        raise ValueError(f"it is {_OTHER_RANKS[len(tokens)]}, which splits text otherwise than GPT-2")
    id_of = {token: id for id, token in enumerate(tokens)}
    ranks: dict[tuple[int, int], int] = {}  # in order of rank, which is their order here
    made: list[int] = []
    for id, token in enumerate(tokens):
        if len(token) < 2:
            continue
        singles = [bytes([byte]) for byte in token]
        if not all(single in id_of for single in singles):
            raise ValueError(f"token {id} holds a byte that has no token of its own")
        parts = merge([id_of[single] for single in singles], ranks, made)
        if len(parts) != 2:
            raise ValueError(f"token {id} is not made of two earlier tokens")
        ranks[parts[0], parts[1]] = len(made)
        made.append(id)
    return Vocabulary([*tokens, END_OF_TEXT.encode()], list(ranks), {END_OF_TEXT: len(tokens)})


def _read_text(file: Path) -> str:
    try:
        return regular(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no file {file}") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None
