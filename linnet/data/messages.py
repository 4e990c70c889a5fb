"""Lists of messages as others write them, as dialogues: OpenAI's (parts, tools, weights) and ShareGPT's."""

import json
from typing import Any

from linnet.data.dialogues import Message
from linnet.data.tally import Notes
from linnet.errors import UserError
from linnet.settings import shown

ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "developer": "developer",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
    "function_call": "call",
}
"""what others call a role -> what it is here"""

_PLAIN = ("system", "user", "assistant")
_READ = {"role", "content", "from", "value", "weight", "tool_calls", "function_call", "refusal"}
_NOT_SAID = {"name", "tool_call_id"}
"""who a tool's result is from; it is part of its turn, or says nothing by itself"""

_TEXT_PARTS = ("text", "input_text", "output_text")


def checked_messages(value: Any, where: str, notes: Notes) -> list[Message]:
    """`value` as messages, each {"role", "content"} and, where it is context that is never learned, "weight": 0.

    Raises:
        UserError: it is no list of messages; the line begins with `where`.
    """
    if not isinstance(value, list) or not value:
        raise UserError(f'{where}: "messages" must be a list of {{"role": ..., "content": ...}} and not be empty')
    return [
        message if _is_plain(message) else _message(message, f"{where}: message {number}", notes)
        for number, message in enumerate(value, 1)
    ]


def answered(messages: list[Message], notes: Notes) -> list[Message] | None:
    """The messages up to the last answer; None, which is counted, if no answer may be learned."""
    last = messages[-1]
    if is_answer(last) and last.get("weight") != 0:
        return messages
    end = len(messages)
    while end and not is_answer(messages[end - 1]):
        end -= 1
    if not any(is_answer(message) and message.get("weight") != 0 for message in messages):
        notes.count("dialogues_without_answer")
        return None
    notes.count("open_turns", sum(message["role"] != "system" for message in messages[end:]))
    return messages[:end]


def is_answer(message: Message) -> bool:
    """Whether the assistant says something."""
    return message["role"] == "assistant" and bool(message["content"].strip())


def _is_plain(message: Any) -> bool:
    """Whether a message needs no conversion; almost none does."""
    return (
        isinstance(message, dict)
        and message.keys() == {"role", "content"}
        and message["role"] in _PLAIN
        and isinstance(message["content"], str)
    )


def _message(value: Any, where: str, notes: Notes) -> Message:
    message = value if isinstance(value, dict) else {}
    got = message.get("role", message.get("from"))
    role = ROLES.get(got.lower()) if isinstance(got, str) else None
    if role is None:
        allowed = ", ".join(ROLES)
        raise UserError(f"{where} has the role {shown(repr(got))}; allowed are {allowed}")
    for key in message.keys() - _READ - _NOT_SAID:
        if message[key] is not None:  # a table has a place for every key in each row
            notes.unread(f"{key} of a message")
    content = _content(message, where, notes)
    if role == "developer":
        notes.count("developer_messages")
        return {"role": "system", "content": content}
    if role == "tool":
        notes.count("tool_turns")
        return {"role": "user", "content": content}
    calls = _calls(message, where)
    if calls or role == "call":
        notes.count("tool_turns")
        return {"role": "assistant", "content": "\n".join(filter(None, [content, *calls])), "weight": 0}
    if "weight" in message and role == "assistant":
        if message["weight"] not in (0, 1, None):
            raise UserError(f"{where} has the weight {shown(repr(message['weight']))}; allowed are 0 and 1")
        if message["weight"] == 0:
            notes.count("unlearned_messages")
            return {"role": role, "content": content, "weight": 0}
    return {"role": role, "content": content}


def _content(message: dict[str, Any], where: str, notes: Notes) -> str:
    """What a message says: a text, or the parts of it that are text, joined."""
    content = message.get("content", message.get("value"))
    if isinstance(content, str):
        return content
    if content is None and (message.get("tool_calls") or message.get("function_call")):
        return ""
    if content is None and isinstance(message.get("refusal"), str):
        return str(message["refusal"])
    if not isinstance(content, list):
        raise UserError(f'{where} has no "content" that is a text')
    texts = []
    for part in content:
        if isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, str):
            texts.append(part)
        else:
            notes.count("parts_without_text")
    return "".join(texts)


def _calls(message: dict[str, Any], where: str) -> list[str]:
    """Each call of a tool as one line: `thermometer({"nest": 3})`."""
    calls = message.get("tool_calls") or []
    if message.get("function_call"):
        calls = [*calls, {"function": message["function_call"]}]
    if not isinstance(calls, list):
        raise UserError(f'{where} has "tool_calls" that are no list')
    lines = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"{where} calls a tool without a name")
        arguments = function.get("arguments", "")
        lines.append(f"{function['name']}({arguments if isinstance(arguments, str) else json.dumps(arguments)})")
    return lines
