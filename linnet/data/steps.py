"""What every preparation does, in one process or in parts: tokenizer, documents encoded, the folder completed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from linnet.console import count_of, say, size_text
from linnet.data.account import Account
from linnet.data.dialogues import identity_pairs
from linnet.data.options import DataConfig
from linnet.data.plan import SPLITS, TRAIN, Divided, Plan
from linnet.data.readers import Document, Reader
from linnet.data.shards import MANIFEST, TEMPLATE, TOKENIZER
from linnet.data.sources import find
from linnet.data.split_writer import SplitWriter, TextCount
from linnet.data.vocabulary import LEARNED_CHARACTERS, given_tokenizer, learned_tokenizer
from linnet.files import write_json
from linnet.tokenizers import ChatTemplate, Tokenizer


class Steps:
    """A preparation whose sources are found.

    Args:
        spool: a folder for what has to be written down before it can be read several times.
        identity: questions and answers that are always in training; added to those of `config.identity`.
    Raises:
        UserError: a source cannot be used, or there is no such tokenizer or template.
    """

    def __init__(self, config: DataConfig, spool: Path, identity: Sequence[tuple[str, str]] = ()) -> None:
        self.config = config
        self.identity = list(identity)
        if config.identity:
            self.identity += identity_pairs(config.assistant_name, config.assistant_creator)
        self.given = given_tokenizer(config)
        self.template = ChatTemplate.default() if config.template is None else ChatTemplate.load(config.template)
        found = find(config, spool)
        self.sources, self.unread = found.sources, found.unread
        self.reader = Reader(self.sources, config, self.identity)
        self.bytes = sum(source.size for source in self.sources)

    def tokenizer(self, plan: Plan, dialogues: int) -> tuple[Tokenizer, int | None]:
        """The tokenizer, and from how many characters it was learned, when it was."""
        if self.given is not None:
            # a template that came with a vocabulary has its own marks for messages, which are there
            marked = dialogues and self.config.template is None
            return self.given.with_special_tokens() if marked else self.given, None
        counted = TextCount()
        texts = (counted.passing(chunks) for chunks in self._training_texts(plan))
        return learned_tokenizer(self.config, texts), counted.characters

    def _training_texts(self, plan: Plan) -> Iterator[Iterator[str]]:
        """The training split's texts from its start, in chunks, as far as a tokenizer learns from it."""
        left = LEARNED_CHARACTERS
        for index, document in enumerate(self.reader.documents()):
            for chunks in _training_parts(plan, index, document):
                part = Divided(chunks)
                yield part.take(left)
                left -= part.taken
                if left <= 0:
                    return

    def complete(
        self,
        folder: Path,
        account: Account,
        tokenizer: tuple[Tokenizer, int | None],
        template: ChatTemplate | None,
        splits: dict[str, Any],
        records: list[dict[str, Any]],
    ) -> None:
        """Writes what stands beside the shards in `folder`, the manifest last; says what they hold.

        Args:
            tokenizer: as `tokenizer` gives it.
            template: that dialogues were written with.
            splits: what the manifest says of each.
            records: what it says of each source.
        """
        for name, fact in splits.items():
            size = size_text(fact["bytes"])
            say(f"{name}: {count_of(fact['documents'], 'document')}, {fact['tokens']:,} tokens, {size} of text")
            if fact["unseen_characters"]:
                share = fact["unseen_characters"] / fact["characters"]
                say(f"{name}: {fact['unseen_characters']:,} characters ({share:.2%}) have no id of their own")
        tokenizer[0].save(folder / TOKENIZER)
        if template is not None:
            template.save(folder / TEMPLATE)
        write_json(folder / MANIFEST, account.manifest(records, *tokenizer, splits))


def _training_parts(plan: Plan, index: int, document: Document) -> Iterator[Iterator[str]]:
    if document.messages is not None:
        if plan.fates[index] == TRAIN:
            yield from (iter((message["content"],)) for message in document.messages)
    else:
        yield from (chunks for name, chunks in plan.pieces(index, document) if name == SPLITS[TRAIN])


def write_documents(
    numbered: Iterable[tuple[int, Document]],
    plan: Plan,
    writers: dict[str, SplitWriter],
    advance: Callable[[int], None] | None = None,
) -> None:
    """Has each document encoded by the writer of its split; `advance` hears of the characters that were written."""
    for index, document in numbered:
        if document.messages is None:
            for name, chunks in plan.pieces(index, document):
                writers[name].text(_heard(chunks, advance) if advance else chunks, document)
        elif plan.fates[index] < len(SPLITS):
            writers[SPLITS[plan.fates[index]]].dialogue(document)
            if advance:
                advance(sum(len(message["content"]) for message in document.messages))


def _heard(chunks: Iterable[str], advance: Callable[[int], None]) -> Iterator[str]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))
