"""Dialogues as token ids: a Jinja template as elsewhere, rendered so that no message can forge a special token."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from linnet.errors import UserError
from linnet.files import read_text, write_text
from linnet.settings import shown
from linnet.tokenizers.base import END_OF_TEXT, SPECIALS, Tokenizer

ROLES = ("system", "user", "assistant")
STOPS = ("<|end|>", END_OF_TEXT)
"""special tokens that end an answer, whatever the template"""

FILE_NAME = "template.jinja"

DEFAULT = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- endfor -%}
{{- '<|assistant|>' if add_generation_prompt else '<|endoftext|>' -}}
"""

# Stands for the content of a message while the template is rendered. Private-use characters and a number: nothing that
# a filter such as `upper` would change, so that a template which uses one is found out.
_OPEN, _CLOSE = "\ue000\ue002", "\ue001"
_HOLE = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")

PROBE = [
    {"role": "user", "content": " \n one <b>&'\" \n "},
    {"role": "assistant", "content": "\t two \n"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "  three"},
]


class _TemplateRefusalError(Exception):
    """What a template's own `raise_exception` said."""


def _raise_exception(message: object) -> NoReturn:
    raise _TemplateRefusalError(str(message))


@dataclass(frozen=True)
class _Piece:
    text: str
    role: str = ""
    """whose message it is; empty for the template's own text"""
    learned: bool = False
    """whether it is the assistant's, and not of weight 0"""


@dataclass(frozen=True)
class ChatTemplate:
    """How a list of messages becomes text and token ids.

    The source is Jinja with the variables `messages` (each with `role` and `content`) and `add_generation_prompt`;
    special tokens stand in it by name. It runs in a sandbox, and what is encoded it prints without a message's content:
    a placeholder is rendered in its stead, and the pieces between are encoded separately. So only the template can make
    a special token, whatever a message spells. Where a template changes contents (with `trim`, for instance), each is
    rendered alone among placeholders to see what becomes of it.

    Raises:
        UserError: the source is not Jinja, fails, prints a message not exactly once, or in a way that depends on what
            it holds.
    """

    source: str

    def __post_init__(self) -> None:
        if _OPEN in self.source:
            raise UserError("this chat template holds U+E000 U+E002, which Linnet uses as a placeholder")
        try:
            self._rendered(PROBE, [message["content"] for message in PROBE], False)
        except _TemplateRefusalError as error:
            raise UserError(f"this chat template refuses a plain dialogue: {shown(error)}") from None
        except Exception as error:
            raise UserError(f"this chat template fails: {_first_line(error)}") from None
        self.render(PROBE)

    @staticmethod
    def default() -> "ChatTemplate":
        """`<|role|>content<|end|>` for each message, then `<|endoftext|>`; `<|assistant|>` where an answer is due."""
        return ChatTemplate(DEFAULT)

    @staticmethod
    def load(path: str | Path) -> "ChatTemplate":
        """The template in the file `path`, or in `template.jinja` when `path` is a folder.

        Raises:
            UserError: no such file, or not a template that can be used; says why.
        """
        path = Path(path)
        file = path / FILE_NAME if path.is_dir() else path
        source = read_text(file)
        try:
            return ChatTemplate(source)
        except UserError as error:
            raise UserError(f"{file}: {error}") from None

    def save(self, path: str | Path) -> Path:
        """The file written, whole or not at all: `path` itself, or `template.jinja` in it when it is a folder."""
        path = Path(path)
        file = path / FILE_NAME if path.is_dir() else path
        write_text(file, self.source)
        return file

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> str:
        """The dialogue as text, for reading. It cannot be encoded back: use `encode`.

        Raises:
            UserError: a message is not of the right form, or the template refuses the dialogue.
        """
        return "".join(piece.text for piece in self._pieces(messages, add_generation_prompt))

    def encode(
        self, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """The ids of a dialogue, and for each whether it is to be learned.

        Learned is what the assistant has to write itself: the content of its messages and the stop token that closes
        each one (with any plain text the template puts between the two). `mask[i]` is about `ids[i]` as a target;
        nothing is shifted here.

        Args:
            messages: each with `role` (system, user, assistant) and `content` (a string); one with `weight` 0 is never
                learned; other keys are not used.
            add_generation_prompt: end where the assistant's next answer begins.
        Raises:
            UserError: a message is not of the right form, the template refuses the dialogue, or it uses a special
                token that `tokenizer` lacks.
        """
        ids: list[int] = []
        mask: list[bool] = []
        answered = False  # an answer has ended, its stop token is still to come
        for piece in self._pieces(messages, add_generation_prompt):
            if piece.role:
                new = tokenizer.encode(piece.text)
                answered = piece.learned
                learned = [answered] * len(new)
            else:
                new, learned = _encode_own_text(piece.text, tokenizer, answered, self.stops(tokenizer))
                answered = False
            ids += new
            mask += learned
        return ids, mask

    def stop_ids(self, tokenizer: Tokenizer) -> list[int]:
        """Ids that end an answer: those of `stops`, and the one that ends a document."""
        names = dict.fromkeys((*self.stops(tokenizer), tokenizer.end_name))
        return [tokenizer.special_ids[name] for name in names]

    def stops(self, tokenizer: Tokenizer) -> tuple[str, ...]:
        """Names of the special tokens that end an answer: the one that this template itself puts behind each, and those
        that do so everywhere, as far as `tokenizer` has them."""
        marks = _marks(tuple(tokenizer.special_ids))
        behind = {found[0] if (found := marks.search(text)) else "" for text in self._behind_answers}
        own = behind if len(behind) == 1 else set()  # another one behind each is the role of who speaks next
        return tuple(name for name in dict.fromkeys((*own, *STOPS)) if name in tokenizer.special_ids)

    @cached_property
    def _behind_answers(self) -> list[str]:
        pieces = self._pieces(PROBE, False)
        return [after.text for answer, after in pairwise(pieces) if answer.role == "assistant"]

    @cached_property
    def _compiled(self) -> jinja2.Template:
        return _compiled(self.source)

    def _rendered(self, messages: list[dict[str, str]], contents: Sequence[str], add_generation_prompt: bool) -> str:
        return self._compiled.render(_variables(messages, contents, add_generation_prompt))

    def _pieces(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> list[_Piece]:
        """The dialogue as the template's own text and contents, in order."""
        checked = _check(messages)
        holes = [f"{_OPEN}{index}{_CLOSE}" for index in range(len(checked))]
        contents = [message["content"] for message in checked]
        try:
            rendered = self._rendered(checked, holes, add_generation_prompt)
            if self.source != DEFAULT:
                contents = _printed(
                    lambda texts: self._rendered(checked, texts, add_generation_prompt), contents, holes, rendered
                )
        except UserError:
            raise
        except _TemplateRefusalError as error:
            raise UserError(f"the chat template refuses this dialogue: {shown(error)}") from None
        except Exception as error:  # a template is a program: it can fail in any way
            raise UserError(f"the chat template fails: {_first_line(error)}") from None
        parts = _HOLE.split(rendered)  # own text, number, own text, number, ..., own text
        found = [int(number) for number in parts[1::2]]
        for index, message in enumerate(checked):
            if (times := found.count(index)) != 1:
                raise UserError(
                    f"the chat template must print message {index + 1} ({message['role']}) once,"
                    f" but prints it {times} times"
                )
        pieces = [_Piece(parts[0])]
        for index, text in zip(found, parts[2::2], strict=True):
            role = checked[index]["role"]
            learned = role == "assistant" and messages[index].get("weight") != 0
            pieces += [_Piece(contents[index], role, learned), _Piece(text)]
        return pieces


def _compiled(source: str) -> jinja2.Template:
    # the same settings as transformers, so that the file means the same there
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(source)


def _printed(
    render: Callable[[Sequence[str]], str], contents: Sequence[str], holes: Sequence[str], rendered: str
) -> list[str]:
    """What a template makes of each message's content.

    Args:
        render: the dialogue with other contents.
        rendered: the dialogue with `holes` for contents.
    Raises:
        UserError: the template's own text depends on what a message holds.
    """
    found, wanted = list(contents), render(contents)
    if wanted == _filled(rendered, found):
        return found
    for index, hole in enumerate(holes):
        before, _, after = rendered.partition(hole)
        text = render([*holes[:index], contents[index], *holes[index + 1 :]])
        found[index] = text[len(before) : len(text) - len(after)]
    if wanted != _filled(rendered, found):
        raise UserError(
            "the chat template writes something else around a message than its content asks for alone; Linnet uses"
            " only templates whose own text does not depend on what messages hold"
        )
    return found


def _variables(messages: list[dict[str, str]], contents: Sequence[str], add_generation_prompt: bool) -> dict[str, Any]:
    return {
        "messages": [
            {"role": message["role"], "content": content} for message, content in zip(messages, contents, strict=True)
        ],
        "add_generation_prompt": add_generation_prompt,
        "tools": None,
        "documents": None,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
    }


def _filled(rendered: str, contents: Sequence[str]) -> str:
    """`rendered` with contents for their placeholders."""
    return _HOLE.sub(lambda found: contents[int(found[1])], rendered)


@lru_cache(maxsize=16)
def _marks(names: tuple[str, ...]) -> re.Pattern[str]:
    """Finds the special tokens of a vocabulary, and those that a template of Linnet's needs."""
    longest_first = sorted({*SPECIALS, *names}, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def _check(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The messages, known to have the right form."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise UserError(f"messages must be a list of messages, not {type(messages).__name__}")
    if not messages:
        raise UserError("a dialogue needs at least one message")
    checked = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise UserError(f"message {number} must have role and content, but is {type(message).__name__}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UserError(f"message {number} has the role {shown(repr(role))}; a role is one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            kind = type(content).__name__
            raise UserError(f"message {number} ({role}) needs a string as content, not {kind}")
        checked.append({"role": role, "content": content})
    return checked


def _encode_own_text(
    text: str, tokenizer: Tokenizer, answered: bool, stops: Sequence[str]
) -> tuple[list[int], list[bool]]:
    """Ids of the template's own text, special tokens included; learned up to the stop token that closes an answer."""
    ids: list[int] = []
    stop_at = 0
    first_special = True
    for place, part in enumerate(_marks(tuple(tokenizer.special_ids)).split(text)):  # text, token, text, ..., text
        if place % 2 == 0:
            ids += tokenizer.encode(part) if part else []
            continue
        if part not in tokenizer.special_ids:
            raise UserError(
                f"the chat template uses {part}, which this vocabulary lacks; with_special_tokens() adds it"
            )
        ids.append(tokenizer.special_ids[part])
        if first_special and answered and part in stops:
            stop_at = len(ids)
        first_special = False
    return ids, [place < stop_at for place in range(len(ids))]


def _first_line(error: Exception) -> str:
    line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
    return f"{shown((str(error).splitlines() or [''])[0])} ({type(error).__name__}{line})"
