"""`linnet prepare`: text -> tokenizer and token shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from linnet.console import count_of, emit, size_text, table, tell
from linnet.data import DataConfig, Prepared, prepare
from linnet.errors import UserError
from linnet.settings import parse_flags, shown


@dataclass(frozen=True, kw_only=True)
class Prepare(DataConfig):
    """Turn text into a folder of tokens to train on.

    Example: linnet prepare my-texts/ --out data/mine --vocab-size 4096
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """files, folders, globs or .zip of texts, tables, chats and documents (docs/own-text.md lists them); `-` is
    standard input; hf:OWNER/NAME is a dataset of the hub; s3://, gs://, https:// and other URLs (docs/cluster.md);
    builtin:stories, builtin:dialogues"""
    read_as: Annotated[str | None, tyro.conf.arg(name="as")] = None
    """read files as this shape, whatever they look like: text, transcript, speakers, whatsapp, telegram, discord,
    messenger, chatgpt, jsonl, json, csv, subtitles or html; unset: by ending and content"""
    include: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """a glob of files of a folder or archive that are read too, though their ending is none of a text: '*.py'; may be
    given several times"""
    out: Path
    """the folder to write; whole or not at all"""
    overwrite: bool = False
    """replace older prepared data in that folder; nothing else is ever replaced"""
    workers: int | None = None
    """processes that share the work where there is much of it; unset: one for each core"""
    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: tasks of a Ray cluster (docs/cluster.md)"""
    part: str | None = None
    """K/N: only part K of N, in this process; all parts share OUT.parts (docs/cluster.md)"""
    merge: bool = False
    """join what the parts of OUT have done: first the plan, at the end the data; needs no SOURCES"""
    json: bool = False
    """print one JSON object: the manifest"""

    def __post_init__(self) -> None:
        if self.sources or not self.merge:  # the parts have noted theirs
            DataConfig.__post_init__(self)


def main(argv: Sequence[str]) -> None:
    """Prepares, then shows what was made."""
    args = parse_flags(Prepare, argv, "linnet prepare")
    prepared = _prepared(args)
    if isinstance(prepared, str):
        emit({"next": prepared}) if args.json else tell(prepared)
        return
    manifest = prepared.manifest
    if args.json:
        emit(manifest)
        return
    rows = [
        (name, f"{count_of(facts['documents'], 'document')}, {size_text(facts['bytes'])}, {facts['tokens']:,} tokens")
        for name, facts in manifest["splits"].items()
    ]
    rows.append(("tokenizer", f"{manifest['tokenizer']['vocab_size']:,} ids"))
    train = manifest["splits"]["train"]
    rows.append(("compression", f"{train['bytes'] / max(train['tokens'], 1):.2f} bytes per token"))
    out = shown(args.out, len(str(args.out)))
    table(out, rows)
    for line in foretold(prepared):
        print(line)
    print(f"next: linnet train linnet-small --data {out} --run runs/{Path(out).name} --train.max-minutes 5")


def _prepared(args: Prepare) -> Prepared | str:
    """What the flags ask for: the data, or a sentence that says how far it is.

    Raises:
        UserError: they contradict each other, or it cannot be done.
    """
    from linnet.data.by_hand import merge, numbered, prepare_by_ray, prepare_part

    flags = {"--part": args.part, "--merge": args.merge, "--engine": args.engine == "ray", "--workers": args.workers}
    given = [flag for flag, value in flags.items() if value not in (None, False)]
    if len(given) > 1 and given != ["--engine", "--workers"]:
        raise UserError(f"{given[0]} and {given[1]} are both given; each says who does the work, take one")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers is {args.workers}; at least 1 is needed")
    if args.merge and not args.sources:
        return merge(args.out, overwrite=args.overwrite)
    config = DataConfig(**{name: getattr(args, name) for name in DataConfig.__dataclass_fields__})
    if args.merge:
        return merge(args.out, config, overwrite=args.overwrite)
    if args.part is not None:
        return prepare_part(config, args.out, *numbered(args.part), overwrite=args.overwrite)
    if args.engine == "ray":
        return prepare_by_ray(config, args.out, args.workers, overwrite=args.overwrite)
    return prepare(config, args.out, overwrite=args.overwrite, workers=args.workers)


def foretold(prepared: Prepared) -> list[str]:
    """Sentences about a little text: what it holds, what is to be expected of it, and how it is learned best."""
    from linnet.training.forecast import LITTLE_BYTES, forecast

    split = prepared.split("train")
    builtin = any(source.startswith("builtin:") for source in prepared.manifest["options"]["sources"])
    if builtin or not 0 < split.bytes <= LITTLE_BYTES:
        return []
    return [
        *forecast(split, prepared.tokenizer()).lines(),
        "this is little text: `linnet train --minutes 5 --data TEXT`, with the text itself, chooses the size, begins "
        "with a model that has read some English, and says what to expect here in 1, 5 and 30 minutes",
    ]
