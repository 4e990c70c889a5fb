"""`linnet tokenizer`: train, encode, decode, stats."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from linnet.console import emit, read_stdin, say, size_text, table
from linnet.errors import UserError
from linnet.settings import parse_flags, shown, suggestion
from linnet.tokenizers.pieces import unseen_characters, visible

USAGE = """\
usage: linnet tokenizer train|encode|decode|stats ... (each has --help)

Example: linnet tokenizer train my-texts/ --out tokenizer.json --vocab-size 4096
"""

LISTED = 20
"""tokens in each list of the statistics"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Learn a vocabulary from text.

    Example: linnet tokenizer train my-texts/ --out tokenizer.json --vocab-size 4096
    """

    sources: Positional[tuple[str, ...]]
    """files, folders or globs of text, `-`, or builtin:stories"""
    out: Path
    """the tokenizer.json to write"""
    kind: Literal["bpe", "char", "word"] = "bpe"
    """bpe: byte pairs; char: characters; word: words that occur twice, all others are spelled"""
    digits: Literal["together", "apart"] = "together"
    """of bpe: whether 42 can be one token, or each digit is one"""
    vocab_size: int = 4096
    """ids at most, five special tokens included; with 261 or more any text can be spelled, byte by byte"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Text to ids: on a terminal each id beside its piece of the text, in a pipe the ids alone.

    Example: linnet tokenizer encode runs/demo "Hello world"
    """

    tokenizer: Positional[Path]
    """a tokenizer.json or a folder that holds one; or GPT-2's vocab.json and merges.txt in a folder, or a rank file"""
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
    """a tokenizer.json or a folder that holds one; or GPT-2's vocab.json and merges.txt in a folder, or a rank file"""
    ids: Positional[tuple[int, ...]] = ()
    """the ids; none reads them from standard input"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """How well a vocabulary fits a text: compression, use, unseen characters, longest and most frequent tokens.

    Example: linnet tokenizer stats runs/demo my-texts/ --compare gpt2-folder/ --png tokenizers.png
    """

    tokenizer: Positional[Path]
    """a tokenizer.json or a folder that holds one; or GPT-2's vocab.json and merges.txt in a folder, or a rank file"""
    sources: Positional[tuple[str, ...]]
    """files, folders or globs of text, `-`, or builtin:stories"""
    compare: Path | None = None
    """another tokenizer, measured on the same text"""
    png: Path | None = None
    """draw the statistics, or the comparison, into this file"""
    json: bool = False
    """print one JSON object; the other tokenizer's is its `compare`"""


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
        near = suggestion(argv[0], list(actions))
        raise UserError(f"unknown action {shown(repr(argv[0]))} of `linnet tokenizer`; {near}")
    actions[argv[0]](argv[1:])


def train(argv: Sequence[str]) -> None:
    """Learns the vocabulary and writes the file."""
    args = parse_flags(Train, argv, "linnet tokenizer train")
    from linnet.data import DataConfig
    from linnet.data.vocabulary import given_tokenizer, learned_tokenizer
    from linnet.tokenizers import BPETokenizer

    config = DataConfig(sources=args.sources, tokenizer=args.kind, digits=args.digits, vocab_size=args.vocab_size)
    assert given_tokenizer(config) is None  # and the size is checked before any text is read
    with reading(args.sources) as texts:
        tokenizer = learned_tokenizer(config, texts())
    tokenizer.save(args.out)
    merges = {"merges": len(tokenizer.merges)} if isinstance(tokenizer, BPETokenizer) else {}
    if args.json:
        path = shown(args.out, len(str(args.out)))
        emit({"path": path, "kind": args.kind, "vocab_size": tokenizer.vocab_size, **merges})
    else:
        more = f", {merges['merges']:,} merges" if merges else ""
        say(f"{args.out}: {tokenizer.vocab_size:,} ids{more}")


def encode(argv: Sequence[str]) -> None:
    """Prints the ids of a text."""
    args = parse_flags(Encode, argv, "linnet tokenizer encode")
    from linnet.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(args.tokenizer)
    text = read_stdin() if args.text == "-" else args.text
    ids = tokenizer.encode(text)
    if unseen := unseen_characters(tokenizer, text):
        say(f"note: characters without an id of their own: {', '.join(map(repr, unseen))}")
    if args.json:
        emit({"ids": ids, "tokens": [tokenizer.piece(id) for id in ids]})
    elif sys.stdout.isatty():
        for id in ids:
            print(f"{id:>7}  {visible(tokenizer.piece(id))}")
    else:
        print(*ids)


def decode(argv: Sequence[str]) -> None:
    """Prints the text of ids."""
    args = parse_flags(Decode, argv, "linnet tokenizer decode")
    from linnet.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(args.tokenizer)
    try:
        ids = list(args.ids) or [int(word) for word in read_stdin().replace(",", " ").split()]
    except ValueError as error:
        raise UserError(f"ids are whole numbers: {shown(error)}") from None
    text = tokenizer.decode(ids)
    if args.json:
        emit({"text": text})
    else:
        print(text)


def stats(argv: Sequence[str]) -> None:
    """Prints, and draws, what a vocabulary does to a text, beside what another does."""
    args = parse_flags(Stats, argv, "linnet tokenizer stats")
    from linnet.tokenizers import Tokenizer
    from linnet.tokenizers.stats import statistics

    paths = [args.tokenizer] if args.compare is None else [args.tokenizer, args.compare]
    loaded = [Tokenizer.load(path) for path in paths]
    with reading(args.sources) as texts:
        found = [
            # for the picture every token that occurs, for people the first ones
            statistics(tokenizer, texts(), top=tokenizer.vocab_size if args.png else LISTED)
            for tokenizer in loaded
        ]
    names = [short_name(path.resolve()) for path in paths]
    if args.png is not None:
        draw(args.png, names, found)
    for facts in found:
        for listed in ("longest_tokens", "most_frequent_tokens", "unseen"):
            facts[listed] = facts[listed][:LISTED]
    if args.json:
        emit(found[0] if len(found) == 1 else {**found[0], "compare": found[1]})
        return
    for path, facts in zip(paths, found, strict=True):
        table(shown(path), rows(facts))
    if len(found) == 2:
        first, second = (facts["tokens"] for facts in found)
        more = f"{first / second - 1:+.1%}" if second else "+0.0%"
        print(f"{shown(paths[0])} needs {more} tokens, compared with {shown(paths[1])}")


def short_name(path: Path) -> str:
    """What people call the tokenizer at `path`: its folder's name, or the file's where that tells more."""
    if path.is_dir():
        return shown(path.name)
    return shown(path.parent.name if path.name == "tokenizer.json" else path.stem)


def rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The statistics as lines of a table."""
    unseen = f"{facts['unseen_characters']:,}"
    if facts["unseen"]:
        unseen += ": " + ", ".join(repr(entry["text"]) for entry in facts["unseen"][:12])
    lengths = facts["token_lengths"]
    common = sorted(lengths, key=lambda length: (-lengths[length], length))[:5]
    return [
        ("text", f"{size_text(facts['bytes'])}, {facts['characters']:,} characters"),
        ("tokens", f"{facts['tokens']:,}"),
        ("compression", f"{facts['bytes_per_token']:.3f} bytes, {facts['chars_per_token']:.3f} characters per token"),
        ("vocabulary used", f"{facts['vocab_used']:,} of {facts['vocab_size']:,} ({facts['vocab_used_fraction']:.1%})"),
        ("unseen characters", unseen),
        ("bytes of a token", ", ".join(f"{n}: {lengths[n] / facts['tokens']:.0%}" for n in common)),
        ("longest tokens", "  ".join(visible(token["text"]) for token in facts["longest_tokens"][:8])),
        ("most frequent", "  ".join(visible(token["text"]) for token in facts["most_frequent_tokens"][:12])),
    ]


def draw(path: Path, names: list[str], found: list[dict[str, Any]]) -> None:
    """Writes the picture of one tokenizer, or of two side by side."""
    from linnet.plots.figures import save_png
    from linnet.plots.tokenizer import tokenizer_analysis, tokenizer_comparison

    if len(found) == 1:
        save_png(tokenizer_analysis(found[0], names[0]), path)
    else:
        save_png(tokenizer_comparison(found, names), path)
    say(f"drawn: {path}")


@contextmanager
def reading(sources: Sequence[str]) -> Iterator[Callable[[], Iterator[Iterator[str]]]]:
    """A function that reads the sources, each time from their start, as `linnet prepare` would: each document as
    pieces of text."""
    from linnet.data import DataConfig
    from linnet.data.readers import Reader
    from linnet.data.sources import find_sources

    config = DataConfig(sources=tuple(sources))
    with tempfile.TemporaryDirectory() as spool:
        reader = Reader(find_sources(config, Path(spool)), config)

        def documents() -> Iterator[Iterator[str]]:
            for document in reader.documents():
                if document.chunks is not None:
                    yield document.chunks
                else:
                    yield from (iter([message["content"]]) for message in document.messages or [])

        yield documents
