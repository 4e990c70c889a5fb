"""From sources to a folder of prepared data: survey, tokenizer, encoding. Each passes over all documents, as a stream.

The folder appears when everything in it is written and on disk; until then it does not exist, or is the old one.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from linnet.console import count_of, progress, say, size_text
from linnet.data.account import Account
from linnet.data.dialogues import identity_pairs
from linnet.data.hub import PREFIX
from linnet.data.options import DataConfig
from linnet.data.plan import SPLITS, TRAIN, Divided, Plan
from linnet.data.prepared import Prepared
from linnet.data.readers import Document, Reader
from linnet.data.shards import MANIFEST, MANIFEST_FORMAT, TEMPLATE, TOKENIZER, is_file_of_a_split
from linnet.data.sources import STDIN, find
from linnet.data.split_writer import SplitWriter, TextCount
from linnet.data.splitting import Survey
from linnet.data.vocabulary import LEARNED_CHARACTERS, given_tokenizer, learned_tokenizer
from linnet.errors import UserError
from linnet.files import making_folder, read_json, write_json
from linnet.settings import shown
from linnet.tokenizers import ChatTemplate, Tokenizer

_SPOOL = "spool"
"""folder for what is read several times, gone when the data is complete"""


def prepare(
    config: DataConfig, out: str | Path, *, identity: Sequence[tuple[str, str]] = (), overwrite: bool = True
) -> Prepared:
    """The prepared data in the folder `out`, which is written whole or not at all.

    It holds, for each split: `NAME.bin` (tokens), `NAME.idx` (where documents begin), `NAME.mask` (which tokens are
    learned when only answers are; with dialogues); and `tokenizer.json`, `template.jinja` (with dialogues),
    `manifest.json`. The tokenizer learns from the training split only. The same sources and config give the same
    bytes, the manifest's date aside.

    Args:
        out: a new folder, an empty one, or older prepared data.
        identity: questions and answers that are always in training and never in validation; added to those of
            `config.identity`.
        overwrite: whether older prepared data in `out` is replaced; nothing else ever is.
    Raises:
        UserError: a source cannot be used, there is too little text, `out` holds something else (or older data that is
            to stay) or cannot be written.
    """
    out = Path(out)
    _check_target(out, config.sources, overwrite)
    try:
        with making_folder(out) as folder:
            _Preparation(config, folder, identity).run()
    except KeyboardInterrupt:
        say(f"stopped; nothing was written to {out}")
        raise
    return Prepared.open(out)


def _check_target(out: Path, sources: Sequence[str], overwrite: bool) -> None:
    """Refuses to replace what is not prepared data, what is itself a source, or data that is to stay."""
    target = os.path.realpath(out)  # unlike a Path's `resolve`, it takes links in a circle
    for spec in sources:
        place = Path(os.path.realpath(spec))
        is_path = spec != STDIN and not spec.startswith(("builtin:", PREFIX))  # "C:\\texts" is one too
        if is_path and Path(target) in (place, *place.parents):
            raise UserError(f"the source {shown(spec)} lies in {out}, which would be replaced; choose another folder")
    if not os.path.exists(out):
        if os.path.islink(out):
            raise UserError(f"{out} is a link that leads nowhere; choose a folder that does not exist yet")
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder that does not exist yet")
    inside = {path.name for path in out.iterdir()}
    foreign = {name for name in inside - {MANIFEST, TOKENIZER, TEMPLATE} if not is_file_of_a_split(name, SPLITS)}
    if inside and (foreign or MANIFEST not in inside or not _is_ours(out)):
        raise UserError(f"{out} is not empty and no prepared data; choose a folder that does not exist yet")
    if inside and not overwrite:
        raise UserError(f"{out} holds prepared data already; `--overwrite` replaces it, or choose another folder")


def _is_ours(out: Path) -> bool:
    manifest = read_json(out / MANIFEST)
    return isinstance(manifest, dict) and manifest.get("format") == MANIFEST_FORMAT


class _Preparation:
    """One preparation; `folder` is the building site."""

    def __init__(self, config: DataConfig, folder: Path, identity: Sequence[tuple[str, str]]) -> None:
        self.config, self.folder = config, folder
        self.spool = folder / _SPOOL
        self.spool.mkdir()
        pairs = list(identity)
        if config.identity:
            pairs += identity_pairs(config.assistant_name, config.assistant_creator)
        self.given = given_tokenizer(config)
        self.template = ChatTemplate.default() if config.template is None else ChatTemplate.load(config.template)
        found = find(config, self.spool)
        self.sources, self.unread = found.sources, found.unread
        self.reader = Reader(self.sources, config, pairs)
        self.bytes = sum(source.size for source in self.sources)
        self.survey = Survey(self.spool / "survey", config)

    def run(self) -> None:
        """Everything, the manifest last."""
        with progress("reading", self.bytes, "bytes") as bar:
            self.survey.read(self.reader.documents(bar.advance))
        plan = self.survey.plan()
        account = Account(self.config, self.reader, self.unread, plan)
        account.say()
        tokenizer, learned = self._tokenizer(plan)
        splits = self._encode(plan, tokenizer)
        records = [source.record() for source in self.sources]
        shutil.rmtree(self.spool)
        tokenizer.save(self.folder / TOKENIZER)
        if self.survey.dialogues:
            self.template.save(self.folder / TEMPLATE)
        write_json(self.folder / MANIFEST, account.manifest(records, tokenizer, learned, splits))

    def _tokenizer(self, plan: Plan) -> tuple[Tokenizer, int | None]:
        """The tokenizer, and from how many characters it was learned, when it was."""
        if self.given is not None:
            # a template that came with a vocabulary has its own marks for messages, which are there
            marked = self.survey.dialogues and self.config.template is None
            return self.given.with_special_tokens() if marked else self.given, None
        counted = TextCount()
        texts = (counted.passing(chunks) for chunks in self._training_texts(plan))
        return learned_tokenizer(self.config, texts), counted.characters

    def _training_texts(self, plan: Plan) -> Iterator[Iterator[str]]:
        """The training split's texts from its start, in chunks, as far as a tokenizer learns from it."""
        left = LEARNED_CHARACTERS
        for index, document in enumerate(self.reader.documents()):
            for chunks in self._training_parts(plan, index, document):
                part = Divided(chunks)
                yield part.take(left)
                left -= part.taken
                if left <= 0:
                    return

    def _training_parts(self, plan: Plan, index: int, document: Document) -> Iterator[Iterator[str]]:
        if document.messages is not None:
            if plan.fates[index] == TRAIN:
                yield from (iter((message["content"],)) for message in document.messages)
        else:
            yield from (chunks for name, chunks in plan.pieces(index, document) if name == SPLITS[TRAIN])

    def _encode(self, plan: Plan, tokenizer: Tokenizer) -> dict[str, Any]:
        """Writes the shards; returns what the manifest says of each split."""
        template = self.template if self.survey.dialogues else None
        names = [name for place, name in enumerate(SPLITS) if plan.holds(place)]
        with ExitStack() as stack, progress("encoding", self.bytes, "bytes") as bar:
            most = self.config.shard_tokens
            writers = {name: SplitWriter(self.folder, name, tokenizer, template, stack, most) for name in names}
            count = 0
            for index, document in enumerate(self.reader.documents(bar.advance)):
                count += 1
                if index >= plan.documents:
                    break
                if document.messages is None:
                    for name, chunks in plan.pieces(index, document):
                        writers[name].text(chunks, document)
                elif plan.fates[index] < len(SPLITS):
                    writers[SPLITS[plan.fates[index]]].dialogue(document)
            if count != plan.documents:
                raise UserError("the sources changed while they were read; prepare again when they are complete")
        facts = {name: writer.facts() for name, writer in writers.items()}
        for name, fact in facts.items():
            size = size_text(fact["bytes"])
            say(f"{name}: {count_of(fact['documents'], 'document')}, {fact['tokens']:,} tokens, {size} of text")
            if fact["unseen_characters"]:
                share = fact["unseen_characters"] / fact["characters"]
                say(f"{name}: {fact['unseen_characters']:,} characters ({share:.2%}) have no id of their own")
        return facts
