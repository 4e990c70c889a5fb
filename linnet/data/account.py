"""What is told of a preparation: to the user before anything is learned, and to the manifest at the end."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linnet.console import count_of, say
from linnet.data.folders import Unread, unread_record
from linnet.data.options import DataConfig
from linnet.data.plan import Plan
from linnet.data.readers import Reader, personal_line
from linnet.data.shards import MANIFEST_FORMAT, VERSION
from linnet.data.sources import source_name
from linnet.settings import shown
from linnet.tokenizers import Tokenizer
from linnet.version import __version__


class Account:
    """What sources held and what becomes of it.

    Args:
        reader: after a reading of all documents.
        unread: the files that are not read.
    """

    def __init__(self, config: DataConfig, reader: Reader, unread: list[Unread], plan: Plan) -> None:
        self.config, self.reader, self.unread, self.plan = config, reader, unread, plan
        self.tally = reader.tally  # now: further readings may end before all is read

    def say(self) -> None:
        """Tells the user, in a line for each thing worth knowing."""
        plan, reader = self.plan, self.reader
        dropped = f", {count_of(plan.duplicates, 'duplicate')} dropped" if plan.duplicates else ""
        how = "the end of the text is held out" if plan.split == "tail" else "split by content"
        if plan.split == "tail" and self.config.split is None:
            how += ", because there are few documents"
        if not self.config.val_fraction and not self.config.test_fraction:
            how = "none is held out"
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
        if reader.repeats:
            pairs = count_of(len(reader.identity), "question")
            times = "once" if reader.repeats == 1 else f"{reader.repeats} times"
            say(f"{pairs} and answers about the assistant itself stand in training, {times} each")
        for line in self.tally.lines():
            say(line)
        if personal := personal_line(reader):
            say(personal)

    def manifest(
        self, sources: list[dict[str, Any]], tokenizer: Tokenizer, learned: int | None, splits: dict[str, Any]
    ) -> dict[str, Any]:
        """The content of manifest.json.

        Args:
            sources: the record of each.
            learned: from how many characters the tokenizer was learned; None: it was given.
            splits: what is kept of each split.
        """
        plan, tally = self.plan, self.tally
        return {
            "format": MANIFEST_FORMAT,
            "version": VERSION,
            "linnet": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "sources": sources,
            "options": options_record(self.config),
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

    def _personal(self) -> dict[str, Any]:
        """What the manifest says of personal data in dialogues; with placeholders, the counts are among the changes."""
        counts = list(self.reader.personal.values())
        return {
            "phone_numbers": sum(phones for phones, _ in counts),
            "mail_addresses": sum(mails for _, mails in counts),
            "names_of_speakers": self.reader.names_of_speakers,
            "placeholders": self.config.without_personal,
        }


def options_record(config: DataConfig) -> dict[str, Any]:
    """The config without paths of this machine."""
    options = dataclasses.asdict(config)
    options["sources"] = [source_name(spec) for spec in config.sources]
    options["tokenizer"] = shown(Path(config.tokenizer).name)
    options["template"] = None if config.template is None else shown(Path(config.template).name)
    return options
