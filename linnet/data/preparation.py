"""From sources to a folder of prepared data: survey, tokenizer, encoding. Each reads the sources once, as a stream.

The folder appears when everything in it is written and on disk; until then it does not exist, or is the old one.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linnet import __version__
from linnet.console import count_of, progress, say, size_text
from linnet.data.dialogues import identity_pairs
from linnet.data.folders import unread_record
from linnet.data.hub import PREFIX
from linnet.data.options import DataConfig
from linnet.data.plan import SPLITS, TRAIN, Divided, Plan
from linnet.data.readers import Document, Reader, personal_line
from linnet.data.shards import (
    MANIFEST,
    MANIFEST_FORMAT,
    MASK_DTYPE,
    OFFSET_DTYPE,
    TEMPLATE,
    TOKENIZER,
    VERSION,
    Prepared,
    ShardWriter,
    token_dtype,
)
from linnet.data.sources import STDIN, find, source_name
from linnet.data.splitting import Survey
from linnet.data.vocabulary import LEARNED_CHARACTERS, given_tokenizer, learned_tokenizer
from linnet.errors import UserError
from linnet.files import making_folder, read_json, sha256, write_json
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
    ours = {f"{name}.{kind}" for name in SPLITS for kind in ("bin", "idx", "mask")} | {MANIFEST, TOKENIZER, TEMPLATE}
    if inside and not (inside <= ours and MANIFEST in inside and _is_ours(out)):
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
        found = find(config, self.spool)
        self.sources, self.unread = found.sources, found.unread
        self.reader = Reader(self.sources, config, pairs)
        self.bytes = sum(source.size for source in self.sources)
        self.survey = Survey(self.spool / "survey", config)

    def run(self) -> None:
        """Everything, the manifest last."""
        with progress("reading", self.bytes, "bytes") as bar:
            self.survey.read(self.reader.documents(bar.advance))
        tally = self.reader.tally
        plan = self.survey.plan()
        self._announce(plan)
        tokenizer, learned = self._tokenizer(plan)
        splits = self._encode(plan, tokenizer)
        records = [source.record() for source in self.sources]
        shutil.rmtree(self.spool)
        tokenizer.save(self.folder / TOKENIZER)
        if self.survey.dialogues:
            ChatTemplate.default().save(self.folder / TEMPLATE)
        manifest = {
            "format": MANIFEST_FORMAT,
            "version": VERSION,
            "linnet": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "sources": records,
            "options": self._options(),
            "split": plan.split,
            "documents": plan.documents - plan.empty,
            "duplicates_dropped": plan.duplicates,
            "empty_documents": plan.empty,
            "rows_without_text": tally.total("rows_without_text"),
            "invalid_bytes_replaced": tally.total("invalid_bytes_replaced"),
            "changes": tally.record(),
            "fields_not_read": tally.unread(),
            "files_not_read": unread_record(self.unread),
            "personal": self._personal(),
            "first_questions": {
                "in_training_only": plan.common,
                "dialogues_held_out": plan.dialogues_held_out,
                "opening_training_too": plan.shared_questions,
            },
            "identity_pairs": len(self.reader.identity),
            "identity_repeats": self.reader.repeats,
            "tokenizer": {
                "fingerprint": tokenizer.fingerprint(),
                "vocab_size": tokenizer.vocab_size,
                "end_of_text": tokenizer.end_of_text,
                "learned_from_characters": learned,
            },
            "splits": splits,
        }
        write_json(self.folder / MANIFEST, manifest)

    def _options(self) -> dict[str, Any]:
        """The config without paths of this machine."""
        options = dataclasses.asdict(self.config)
        options["sources"] = [source_name(spec) for spec in self.config.sources]
        options["tokenizer"] = shown(Path(self.config.tokenizer).name)
        return options

    def _personal(self) -> dict[str, Any]:
        """What the manifest says of personal data in dialogues; with placeholders, the counts are among the changes."""
        counts = list(self.reader.personal.values())
        return {
            "phone_numbers": sum(phones for phones, _ in counts),
            "mail_addresses": sum(mails for _, mails in counts),
            "names_of_speakers": self.reader.names_of_speakers,
            "placeholders": self.config.without_personal,
        }

    def _announce(self, plan: Plan) -> None:
        dropped = f", {count_of(plan.duplicates, 'duplicate')} dropped" if plan.duplicates else ""
        how = "the end of the text is held out" if plan.split == "tail" else "split by content"
        if plan.split == "tail" and self.config.split is None:
            how += ", because there are few documents"
        say(f"{count_of(plan.documents - plan.empty, 'document')}{dropped}; {how}")
        if plan.common:
            dialogues = "dialogues begin" if plan.common != 1 else "dialogue begins"
            say(f"{plan.common:,} {dialogues} with a question that opens many: all of them are in training")
        if plan.shared_questions:
            say(
                f"{plan.shared_questions:,} of {count_of(plan.dialogues_held_out, 'held-out dialogue')} begin with a "
                "question that opens a dialogue in training too"
            )
        if plan.empty:
            say(f"{count_of(plan.empty, 'document')} without text left out")
        if self.reader.repeats:
            pairs = count_of(len(self.reader.identity), "question")
            times = "once" if self.reader.repeats == 1 else f"{self.reader.repeats} times"
            say(f"{pairs} and answers about the assistant itself stand in training, {times} each")
        for line in self.reader.tally.lines():
            say(line)
        if personal := personal_line(self.reader):
            say(personal)

    def _tokenizer(self, plan: Plan) -> tuple[Tokenizer, int | None]:
        """The tokenizer, and from how many characters it was learned, when it was."""
        if self.given is not None:
            return self.given.with_special_tokens() if self.survey.dialogues else self.given, None
        counted = _Counted()
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
        template = ChatTemplate.default() if self.survey.dialogues else None
        names = [name for place, name in enumerate(SPLITS) if plan.holds(place)]
        with ExitStack() as stack, progress("encoding", self.bytes, "bytes") as bar:
            writers = {name: _SplitWriter(self.folder, name, tokenizer, template, stack) for name in names}
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


class _Counted:
    """Counts the characters of texts that pass."""

    def __init__(self) -> None:
        self.characters = 0
        self.bytes = 0

    def passing(self, chunks: Iterable[str]) -> Iterator[str]:
        for chunk in chunks:
            self.characters += len(chunk)
            self.bytes += len(chunk.encode())
            yield chunk


class _SplitWriter:
    """Writes the documents of one split: tokens, offsets, and the mask when there is a chat template."""

    def __init__(
        self, folder: Path, name: str, tokenizer: Tokenizer, template: ChatTemplate | None, stack: ExitStack
    ) -> None:
        self.name, self.tokenizer, self.template = name, tokenizer, template
        dtypes = {"bin": token_dtype(tokenizer.vocab_size), "idx": OFFSET_DTYPE}
        if template is not None:
            dtypes["mask"] = MASK_DTYPE
        size, fingerprint = tokenizer.vocab_size, tokenizer.fingerprint()
        self.shards = {
            kind: stack.enter_context(ShardWriter(folder / f"{name}.{kind}", dtype, size, fingerprint))
            for kind, dtype in dtypes.items()
        }
        self.shards["idx"].write((0,))
        self.documents = self.unseen = 0
        self.counted = _Counted()
        self.source_nats: float | None = 0.0

    def text(self, chunks: Iterable[str], document: Document) -> None:
        """Appends a text and the end token; all of it is to be learned."""
        for ids in self.tokenizer.encode_iter(self.counted.passing(chunks)):
            self._write(ids, (1,) * len(ids))
        self._write((self.tokenizer.end_of_text,), (1,))
        self._end(document)

    def dialogue(self, document: Document) -> None:
        """Appends a dialogue in the form of the chat template; what the assistant says is to be learned."""
        assert document.messages is not None
        assert self.template is not None
        ids, mask = self.template.encode(document.messages, self.tokenizer)
        self._write(ids, mask)
        if not ids or ids[-1] != self.tokenizer.end_of_text:
            self._write((self.tokenizer.end_of_text,), (0,))
        for message in document.messages:
            for _ in self.counted.passing((message["content"],)):
                pass
        self._end(document)

    def _write(self, ids: Sequence[int], mask: Sequence[int]) -> None:
        self.shards["bin"].write(ids)
        if self.tokenizer.unseen_ids:
            self.unseen += sum(map(self.tokenizer.unseen_ids.__contains__, ids))
        if "mask" in self.shards:
            self.shards["mask"].write(mask)

    def _end(self, document: Document) -> None:
        self.documents += 1
        self.shards["idx"].write((self.shards["bin"].length,))
        if self.source_nats is not None and document.log_probability is not None:
            self.source_nats -= document.log_probability
        else:
            self.source_nats = None

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the split, once its shards are closed."""
        return {
            "documents": self.documents,
            "tokens": self.shards["bin"].length,
            "bytes": self.counted.bytes,
            "characters": self.counted.characters,
            "unseen_characters": self.unseen,
            "source_nats": self.source_nats,
            "files": {shard.path.name: sha256(shard.path) for shard in self.shards.values()},
        }
