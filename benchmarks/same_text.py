"""One text for both sides of benchmarks/time_to_loss.py: as Linnet's recipes prepare it, and as nanoGPT reads it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from nanogpt import Recipe, write_ids

from linnet.errors import UserError
from linnet.files import read_text
from linnet.settings import from_dict, parse_flags, read_toml, recipe_path
from linnet.training.recipe import Config

WINDOW = 64


def linnet_config(name: str, flags: list[str]) -> Config:
    """A recipe, with flags as `linnet train` takes them."""
    return parse_flags(Config, flags, "time_to_loss.py", from_dict(Config, read_toml(recipe_path(name))))


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One setting of nanoGPT, and the ids it reads."""

    name: str
    recipe: Recipe
    ids: Path
    """training ids, uint16"""
    score_ids: Path
    vocab_size: int
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Own:
    """What Linnet reads."""

    data: Path
    """prepared by Linnet"""
    score_ids: Path


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared: the same text for both sides, and one unit of loss."""

    own: dict[int, Own]
    """by how many ids a recipe asks for; the first for all others"""
    window: int
    """inputs of a scored window; 0 takes each model's own context"""
    units: int
    """what the nats of the scored text are divided by"""
    peers: tuple[Peer, ...]
    seconds: float | None
    """of a nanoGPT run; None leaves it its own number of iterations"""
    short_share: float
    """of nanoGPT's time, for Linnet's short run"""
    figure: str
    """which of a run's own figures is the loss, in bits"""

    def text(self, config: Config) -> Own:
        """What is read with this config."""
        return self.own.get(config.prepare.vocab_size, next(iter(self.own.values())))


def characters(text_file: Path, work: Path, iterations: int, modes: list[str], window: int = WINDOW) -> Comparison:
    """The characters of a text, its last tenth held out, written for both sides.

    nanoGPT's ids are those of its own prepare script: the characters by code point. Linnet's vocabulary has U+FFFD
    and five special tokens besides.
    """
    from linnet.data import Prepared, prepare

    text = read_text(text_file)
    alphabet = sorted(set(text))
    options = linnet_config("shakespeare", []).prepare  # which the short recipe and the long one share
    options = dataclasses.replace(options, sources=(str(text_file),), vocab_size=len(alphabet) + 6)
    prepare(options, work / "data")
    data = Prepared.open(work / "data")
    border = data.split("train").characters
    if border + data.split("val").characters != len(text):
        raise UserError(f"{text_file} cannot be compared: preparing it loses characters")
    number = {character: id for id, character in enumerate(alphabet)}
    ids, score_ids = (
        write_ids(work / f"{name}.bin", [number[character] for character in part])
        for name, part in (("train", text[:border]), ("val", text[border:]))
    )
    own = data.split("val").tokens[:-1]  # without the end of text, which nanoGPT does not have
    peers = tuple(
        Peer(
            name=mode,
            recipe=Recipe(max_iters=iterations),
            ids=ids,
            score_ids=score_ids,
            vocab_size=len(alphabet),
            compile=mode == "compiled",
        )
        for mode in modes
    )
    return Comparison(
        own={options.vocab_size: Own(data=data.folder, score_ids=write_ids(work / "linnet-val.bin", own))},
        window=window,
        units=len(own) - 1,
        peers=peers,
        seconds=None,
        short_share=1 / 7,
        figure="val_bits_per_char",
    )


def stories(text_file: Path, work: Path, minutes: float) -> Comparison:
    """Stories between separators, as the 4,096 and the 2,048 ids of Linnet's recipes, and as characters.

    The validation split begins after an end of text, so that its first token is scored as well.
    """
    import numpy as np

    from linnet.data import DataConfig, Prepared, prepare

    few, usual = (linnet_config(name, []).prepare for name in ("stories-quick", "stories"))
    letters = dataclasses.replace(usual, tokenizer="char", vocab_size=DataConfig().vocab_size)
    peers, own, units = [], {}, 0
    for options in (usual, few, letters):
        learned = options.tokenizer == "bpe"
        name = f"bpe-{options.vocab_size}" if learned else "char"
        prepare(dataclasses.replace(options, sources=(str(text_file),)), work / name)
        data = Prepared.open(work / name)
        train, val = data.split("train"), data.split("val")
        score_ids = write_ids(work / f"{name}-val.bin", np.concatenate([[val.end_of_text], val.tokens]))
        if learned:
            own[options.vocab_size], units = Own(data=data.folder, score_ids=score_ids), val.bytes
        peers.append(
            Peer(
                name=f"{options.vocab_size:,} ids of Linnet" if learned else "characters",
                recipe=Recipe(),
                vocab_size=train.vocab_size,
                ids=write_ids(work / f"{name}-train.bin", train.tokens),
                score_ids=score_ids,
            )
        )
    return Comparison(
        own=own,
        window=0,
        units=units,
        peers=tuple(peers),
        seconds=60 * minutes,
        short_share=1 / 5,
        figure="val_bits_per_byte",
    )
