"""Any text -> a split that holds all of it, in the tokens of a model: nothing is held out, and nothing dropped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from linnet.console import progress, say, size_text
from linnet.data.options import DataConfig
from linnet.data.prepared import Prepared
from linnet.data.readers import Document, Reader
from linnet.data.shards import MASK_DTYPE, OFFSET_DTYPE, Split, open_shard, token_dtype
from linnet.data.sources import Source, find, source_name
from linnet.data.split_writer import SplitWriter
from linnet.errors import UserError
from linnet.evaluate.source import document_content
from linnet.run.texts import text_key
from linnet.settings import shown
from linnet.tokenizers import ChatTemplate

if TYPE_CHECKING:
    from linnet.tokenizers import Tokenizer

SPLIT = "text"
"""what the split of such a text is called"""


@dataclass(frozen=True, slots=True)
class WholeText:
    """A text in the tokens of a model."""

    name: str
    key: str
    """what it is known by, in any tokens"""
    split: Split


@contextmanager
def whole_text(
    spec: str, tokenizer: Tokenizer, template: ChatTemplate | None, *, read_as: str | None = None
) -> Iterator[WholeText]:
    """All of the text that a source names; gone when the block ends.

    Args:
        spec: any source that `linnet prepare` takes.
        template: how dialogues are written; None refuses them.
        read_as: the shape of the file, whatever it looks like.
    Raises:
        UserError: the source cannot be read, holds no text, or holds dialogues and there is no template.
    """
    config = DataConfig(sources=(spec,), read_as=read_as)
    with tempfile.TemporaryDirectory(prefix="linnet-text-") as folder:
        spool = Path(folder) / "spool"
        spool.mkdir()
        found = find(config, spool)
        reader = Reader(found.sources, config)
        with progress("encoding", sum(source.size for source in found.sources), "bytes") as bar:
            documents = reader.documents(bar.advance)
            if template is None:
                documents = _without_dialogues(documents, "; --as text reads a text file as it stands")
            split = _written(documents, Path(folder), tokenizer, template)
        for line in reader.tally.lines():
            say(line)
        if not split.bytes:
            raise UserError(f"no text at all in {shown(spec)}; nothing to score")
        key = text_key([source.record() for source in found.sources], _sizes(split))
        yield WholeText(_name(spec, found.sources), key, split)


@contextmanager
def other_tokens(
    prepared: Prepared, name: str, tokenizer: Tokenizer, template: ChatTemplate | None
) -> Iterator[WholeText]:
    """The split `name` of prepared data in other tokens than it was prepared with: its documents read back, and
    encoded anew.

    Raises:
        UserError: there is no such split, or its documents cannot be read back as they were.
    """
    split, old = prepared.split(name), prepared.tokenizer()
    theirs = ChatTemplate.load(prepared.template_path) if prepared.template_path else None

    def documents(advance: Callable[[int], None]) -> Iterator[Document]:
        for start, end in zip(split.offsets[:-1].tolist(), split.offsets[1:].tolist(), strict=True):
            content = document_content(split.tokens[start:end].tolist(), old, theirs)
            if content is None:
                raise UserError(f"{prepared.folder} holds dialogues in a form that cannot be read back; give the text")
            advance(1)
            yield Document(chunks=iter((content,))) if isinstance(content, str) else Document(messages=content)

    with tempfile.TemporaryDirectory(prefix="linnet-text-") as folder:
        with progress("encoding", split.documents, "documents") as bar:
            read = documents(bar.advance)
            read = read if template is not None else _without_dialogues(read)
            found = _written(read, Path(folder), tokenizer, template)
        if (found.bytes, found.characters) != (split.bytes, split.characters):
            raise UserError(
                f"{prepared.folder} was prepared with a vocabulary that does not tell its text back letter by letter "
                f"({size_text(found.bytes)} of {size_text(split.bytes)}); give the text itself as --data"
            )
        yield WholeText(*names_of(prepared, name), found)


def _without_dialogues(documents: Iterator[Document], hint: str = "") -> Iterator[Document]:
    """
    Raises:
        UserError: one of them is a dialogue; `hint` says what helps.
    """
    for document in documents:
        if document.messages is not None:
            raise UserError(f"this text holds dialogues, and the model has no chat template to read them with{hint}")
        yield document


def names_of(prepared: Prepared, name: str) -> tuple[str, str]:
    """What a split of prepared data is called, and what it is known by."""
    sources = [str(source.get("name", "")) for source in prepared.manifest["sources"]]
    key = text_key(prepared.manifest["sources"], prepared.manifest["splits"][name])
    return f"{', '.join(sources)} ({name})", key


def _name(spec: str, sources: Sequence[Source]) -> str:
    """What a source is called: by its one file, or by what the user gave of several."""
    return sources[0].name if len(sources) == 1 else f"{source_name(spec)}, {len(sources):,} files"


def _sizes(split: Split) -> dict[str, Any]:
    return {"documents": split.documents, "bytes": split.bytes, "characters": split.characters}


def _written(documents: Iterator[Document], folder: Path, tokenizer: Tokenizer, template: ChatTemplate | None) -> Split:
    """The documents as a split, whose files are in `folder`."""
    with ExitStack() as stack:
        writer = SplitWriter(folder, SPLIT, tokenizer, template, stack)
        for document in documents:
            if document.chunks is not None:
                writer.text(document.chunks, document)
            else:
                writer.dialogue(document)
    size, fingerprint = tokenizer.vocab_size, tokenizer.fingerprint()
    kinds = {"bin": token_dtype(size), "idx": OFFSET_DTYPE, "mask": MASK_DTYPE}
    arrays: dict[str, np.ndarray] = {}
    for kind, shard in writer.shards.items():
        arrays[kind] = open_shard(shard.path, kinds[kind], shard.count, fingerprint)
    return Split(
        name=SPLIT,
        tokens=arrays["bin"],
        mask=arrays.get("mask"),
        offsets=arrays["idx"],
        characters=writer.counted.characters,
        bytes=writer.counted.bytes,
        end_of_text=tokenizer.begin_of_text,  # of a split, this is what the first token has before it
        vocab_size=size,
        source_nats=writer.source_nats,
    )
