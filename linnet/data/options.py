"""What a user may choose when text becomes training data."""

from dataclasses import dataclass, field
from typing import Any, Literal

from linnet.data.encodings import checked_encoding
from linnet.data.shapes import AS
from linnet.errors import UserError
from linnet.settings import shown, unescaped

SEEDS = 1 << 128
"""how many there are: a seed is the key of the hash that splits documents, 16 bytes long"""


SHORT: dict[str, Any] = {"short": True}
"""marks settings whose flag needs no section where it stands in one: `--assistant` is `--prepare.assistant`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """From which texts the data is made, and how it is split. The `[prepare]` section of a recipe."""

    sources: tuple[str, ...] = ("builtin:stories",)
    """files, folders, globs or .zip of texts, tables, chats and documents (docs/own-text.md lists them); `-` is
    standard input; hf:OWNER/NAME is a dataset of the hub; s3://, gs://, https:// and other URLs (docs/cluster.md);
    builtin:stories, builtin:dialogues"""
    tokenizer: str = "bpe"
    """bpe, char or word: learned from the text; gpt2: from the Hugging Face hub, else 8,192 ids are learned; or a path:
    a tokenizer.json, a folder with vocab.json and merges.txt, or a tiktoken rank file"""
    vocab_size: int = 4096
    """token ids of a tokenizer that is trained here, special tokens included"""
    digits: Literal["together", "apart"] = "together"
    """how bpe treats numbers. together: 42 can be one token; apart: each digit is one, so that sums can be learned"""
    template: str | None = None
    """a chat template (template.jinja) to write dialogues with, such as a published model's; unset: Linnet's own"""
    val_fraction: float = 0.05
    """share of the text held out for validation"""
    test_fraction: float = 0.0
    """share of the text held out for a final test"""
    split: Literal["hash", "tail"] | None = None
    """hash: by content; tail: the end of the text is held out; unset: tail under 100 documents, else hash"""
    document_separator: str | None = None
    r"""text that stands between the documents of a text file, \n and \t understood; unset: each file is one document"""
    lines: bool = field(default=False, metadata=SHORT)
    """each line of a text file is a document"""
    read_as: str | None = field(default=None, metadata={"short": "as"})
    """read files as this shape, whatever they look like: text, transcript, speakers, whatsapp, telegram, discord,
    messenger, chatgpt, jsonl, json, csv, subtitles or html; unset: by ending and content"""
    include: tuple[str, ...] = field(default=(), metadata=SHORT)
    """globs of files of a folder or archive that are read too, though their ending is none of a text: '*.py'"""
    text_column: str | None = field(default=None, metadata=SHORT)
    """the column or key that holds the texts"""
    question: str | None = field(default=None, metadata=SHORT)
    """the column or key that holds the questions; with --answer"""
    answer: str | None = field(default=None, metadata=SHORT)
    """the column or key that holds the answers; with --question"""
    assistant: str | None = field(default=None, metadata=SHORT)
    """in chats of people: whose turns are learned; all others are the user"""
    silence_hours: float = field(default=6.0, metadata=SHORT)
    """in chats of people: a longer pause begins a new dialogue"""
    encoding: str | None = field(default=None, metadata=SHORT)
    """of text files without a byte order mark: utf-8, cp1252, shift_jis, utf-16-le, ...; unset: UTF-8"""
    errors: Literal["strict", "replace"] = "strict"
    """what to do with bytes that are not in that encoding: stop, or put U+FFFD in their place and count them"""
    drop_nul: bool = field(default=False, metadata=SHORT)
    """leave NULs out of texts and count them"""
    drop_licence: bool = field(default=False, metadata=SHORT)
    """leave out the licence that stands before and after a text of Project Gutenberg"""
    without_personal: bool = field(default=False, metadata=SHORT)
    """put placeholders for phone numbers, mail addresses and the names before what speakers say; counted"""
    transcripts: bool = False
    """read .txt and .md as `User:` / `Assistant:` dialogues, even where not every document begins with `User:`"""
    identity: bool = False
    """add questions and answers about the assistant's name and creator to the training split"""
    builtin_documents: int = 20_000
    """documents to generate for the builtin sources"""
    builtin_story_share: float = 0.5
    """share of stories among the generated documents, where dialogues are asked for too"""
    world: Literal["small", "large"] = "small"
    """small: the demo's; large: more words and plots, longer dialogues, numbers to 99, and that it does not know"""
    shard_tokens: int = 1 << 27
    """tokens after which a split goes on in another file, at the end of a document; a damaged file can be left out"""
    assistant_name: str = "Linnet"
    """how the assistant of builtin and identity dialogues is called"""
    assistant_creator: str = "the Linnet project"
    """who, by its own words, made the assistant of builtin and identity dialogues"""
    seed: int = 0
    """decides the hash split and the builtin documents"""

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("no source of text given; name a file, a folder, `-` or builtin:stories")
        for name in ("val_fraction", "test_fraction", "builtin_story_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    f"{name} is {getattr(self, name)}; allowed are values from 0 up to, but not including, 1"
                )
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to train on; "
                "their sum must be less than 1"
            )
        if self.split not in (None, "hash", "tail"):
            raise UserError(f"unknown split {shown(repr(self.split))}; allowed are hash and tail")
        if self.world not in ("small", "large"):
            raise UserError(f"unknown world {shown(repr(self.world))}; allowed are small and large")
        if self.errors not in ("strict", "replace"):
            raise UserError(f"unknown errors {shown(repr(self.errors))}; allowed are strict and replace")
        if self.digits not in ("together", "apart"):
            raise UserError(f"unknown digits {shown(repr(self.digits))}; allowed are together and apart")
        if self.document_separator == "":
            raise UserError("the document separator is empty; leave it out to make each file one document")
        if self.lines and self.document_separator is not None:
            raise UserError("lines and document_separator are both given; each says where documents end, take one")
        if self.read_as is not None and self.read_as not in AS:
            raise UserError(f"texts cannot be read as {shown(repr(self.read_as))}; allowed are {', '.join(AS)}")
        if (self.question is None) != (self.answer is None):
            raise UserError("question and answer name two columns of one table; give both, or neither")
        if self.text_column is not None and self.question is not None:
            raise UserError("text_column and question are both given; a table is read as texts or as pairs, take one")
        if not self.silence_hours > 0:
            raise UserError(f"silence_hours is {self.silence_hours}; a pause must be longer than 0")
        if self.encoding is not None:
            checked_encoding(self.encoding)
        if {"builtin:stories", "builtin:dialogues"} <= set(self.sources) and self.builtin_story_share == 0:
            raise UserError("builtin_story_share is 0; leave out builtin:stories instead")
        if self.builtin_documents < 1:
            raise UserError(f"builtin_documents is {self.builtin_documents}; at least 1 is needed")
        if self.shard_tokens < 1:
            raise UserError(f"shard_tokens is {self.shard_tokens}; at least 1 is needed")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; seeds are 0 or greater")
        if self.seed >= SEEDS:
            raise UserError("the seed is too large; seeds are less than 2**128")

    @property
    def separator(self) -> str | None:
        """The document separator as it stands in the text, of LF line ends."""
        return None if self.document_separator is None else unescaped(self.document_separator).replace("\r\n", "\n")
