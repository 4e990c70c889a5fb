"""`linnet tokenizer`: train, encode, decode, stats."""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tyro.conf import Positional

from linnet.config import parse_flags, suggestion
from linnet.console import emit, progress, say, size_text, table
from linnet.errors import UserError

USAGE = """\
usage: linnet tokenizer train|encode|decode|stats ... (each has --help)

Example: linnet tokenizer train my-texts/ --out tokenizer.json --vocab-size 4096
"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Learn a byte-level BPE vocabulary from text.

    Example: linnet tokenizer train my-texts/ --out tokenizer.json --vocab-size 4096
    """

    sources: Positional[tuple[str, ...]]
    """files, folders or globs of text, `-`, or builtin:stories"""
    out: Path
    """the tokenizer.json to write"""
    vocab_size: int = 4096
    """ids, the 256 bytes and five special tokens included"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Text to ids.

    Example: linnet tokenizer encode runs/demo "Hello world"
    """

    tokenizer: Positional[Path]
    """a tokenizer.json, or a folder that holds one"""
    text: Positional[str] = "-"
    """the text; `-` reads standard input"""
    json: bool = False
    """print one JSON object, with the text of each token"""


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Ids to text.

    Example: linnet tokenizer decode runs/demo 72 101 108 108 111
    """

    tokenizer: Positional[Path]
    """a tokenizer.json, or a folder that holds one"""
    ids: Positional[tuple[int, ...]] = ()
    """the ids; none reads them from standard input"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """How well a vocabulary fits a text: compression, use, longest and most frequent tokens.

    Example: linnet tokenizer stats runs/demo my-texts/
    """

    tokenizer: Positional[Path]
    """a tokenizer.json, or a folder that holds one"""
    sources: Positional[tuple[str, ...]]
    """files, folders or globs of text, `-`, or builtin:stories"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Picks the sub-verb."""
    actions: dict[str, Callable[[Sequence[str]], None]] = {
        "train": train,
        "encode": encode,
        "decode": decode,
        "stats": stats,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    if argv[0] not in actions:
        raise UserError(f"unknown action {argv[0]!r} of `linnet tokenizer`; {suggestion(argv[0], list(actions))}")
    actions[argv[0]](argv[1:])


def train(argv: Sequence[str]) -> None:
    """Learns merges and writes the file."""
    args = parse_flags(Train, argv, "linnet tokenizer train")
    from linnet.tokenizers import BPETokenizer
    from linnet.tokenizers.pretokenize import split_stream

    counts: Counter[str] = Counter()
    for chunks in documents(args.sources):
        for pieces in split_stream(chunks):
            counts.update(pieces)
    with progress("merging", args.vocab_size - 261, "merges") as bar:
        done = 0

        def advance(merges: int, wanted: int) -> None:
            nonlocal done
            bar.advance(merges - done)
            done = merges

        tokenizer = BPETokenizer.train_from_counts(counts, args.vocab_size, advance)
    tokenizer.save(args.out)
    if args.json:
        emit({"path": str(args.out), "vocab_size": tokenizer.vocab_size, "merges": len(tokenizer.merges)})
    else:
        say(f"{args.out}: {tokenizer.vocab_size:,} ids, {len(tokenizer.merges):,} merges")


def encode(argv: Sequence[str]) -> None:
    """Prints the ids of a text."""
    args = parse_flags(Encode, argv, "linnet tokenizer encode")
    from linnet.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(args.tokenizer)
    ids = tokenizer.encode(sys.stdin.read() if args.text == "-" else args.text)
    if args.json:
        emit({"ids": ids, "tokens": [tokenizer.token_bytes(id).decode("utf-8", errors="replace") for id in ids]})
    else:
        print(*ids)


def decode(argv: Sequence[str]) -> None:
    """Prints the text of ids."""
    args = parse_flags(Decode, argv, "linnet tokenizer decode")
    from linnet.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(args.tokenizer)
    try:
        ids = list(args.ids) or [int(word) for word in sys.stdin.read().replace(",", " ").split()]
    except ValueError as error:
        raise UserError(f"ids are whole numbers: {error}") from None
    text = tokenizer.decode(ids)
    if args.json:
        emit({"text": text})
    else:
        print(text)


def stats(argv: Sequence[str]) -> None:
    """Prints what a vocabulary does to a text."""
    args = parse_flags(Stats, argv, "linnet tokenizer stats")
    from linnet.tokenizers import Tokenizer
    from linnet.tokenizers.stats import statistics

    found = statistics(Tokenizer.load(args.tokenizer), chain.from_iterable(documents(args.sources)))
    if args.json:
        emit(found)
        return
    longest = ", ".join(repr(token["text"]) for token in found["longest_tokens"][:8])
    frequent = ", ".join(repr(token["text"]) for token in found["most_frequent_tokens"][:12])
    rows = [
        ("text", f"{size_text(found['bytes'])}, {found['characters']:,} characters"),
        ("tokens", f"{found['tokens']:,}"),
        ("compression", f"{found['bytes_per_token']:.3f} bytes, {found['chars_per_token']:.3f} characters per token"),
        ("vocabulary used", f"{found['vocab_used']:,} of {found['vocab_size']:,} ({found['vocab_used_fraction']:.1%})"),
        ("longest tokens", longest),
        ("most frequent", frequent),
    ]
    table(str(args.tokenizer), rows)


def documents(sources: Sequence[str]) -> Iterator[Iterator[str]]:
    """Each document of the sources as pieces of text, as `linnet prepare` would read it."""
    from linnet.data import DataConfig
    from linnet.data.readers import Reader
    from linnet.data.sources import find_sources

    config = DataConfig(sources=tuple(sources))
    with tempfile.TemporaryDirectory() as spool:
        for document in Reader(find_sources(config, Path(spool)), config).documents():
            if document.chunks is not None:
                yield document.chunks
            else:
                yield from (iter([message["content"]]) for message in document.messages or [])
