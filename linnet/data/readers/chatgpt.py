"""ChatGPT's export: each chat is a tree of messages, and the branch that was shown last is read."""

from collections.abc import Iterator
from typing import Any

from linnet.data.messages import answered
from linnet.data.readers.json_rows import entries
from linnet.data.readers.reading import Document, Reading
from linnet.errors import UserError

_ROLES = ("system", "user", "assistant")


def looks_like(start: str) -> bool:
    """Whether JSON that begins with `start` is such an export."""
    return start.lstrip().startswith("[") and '"mapping"' in start and '"parent"' in start and '"children"' in start


def read(reading: Reading) -> Iterator[Document]:
    """A dialogue for each chat."""
    for value, where in entries(reading):
        mapping = value.get("mapping") if isinstance(value, dict) else None
        if not isinstance(mapping, dict):
            raise UserError(f'{where} has no "mapping"; `--as json` reads the file as plain JSON')
        messages = answered(_branch(mapping, value.get("current_node"), where, reading), reading.notes)
        if messages:
            yield Document(messages=messages)


def _branch(mapping: dict[str, Any], node: Any, where: str, reading: Reading) -> list[dict[str, Any]]:
    """The messages from the root to the node that stood last; those of the same side in a row are one."""
    path: list[dict[str, Any]] = []
    seen = set()
    if node not in mapping:  # older exports do not name it
        node = next((name for name in reversed(mapping) if not mapping[name].get("children")), None)
    while isinstance(node, str) and node in mapping and node not in seen:
        seen.add(node)
        path.append(mapping[node])
        node = mapping[node].get("parent")
    messages: list[dict[str, Any]] = []
    for entry in reversed(path):
        message = entry.get("message") or {}
        role, text = (message.get("author") or {}).get("role"), _said(message, where, reading)
        if role not in _ROLES or not text.strip():
            if role is not None and role != "system":
                reading.notes.count("tool_messages" if role == "tool" else "empty_messages")
        elif messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n\n" + text
        else:
            messages.append({"role": role, "content": text})
    branches = sum("message" in entry and bool(entry["message"]) for entry in mapping.values())
    spoken = sum(bool(entry.get("message")) for entry in path)
    reading.notes.count("other_branches", branches - spoken)
    return messages


def _said(message: dict[str, Any], where: str, reading: Reading) -> str:
    content = message.get("content") or {}
    if content.get("content_type") not in ("text", "multimodal_text"):
        return ""
    parts = content.get("parts") or []
    texts = [part for part in parts if isinstance(part, str)]
    reading.notes.count("parts_without_text", len(parts) - len(texts))
    return reading.cleaned("".join(texts), where)
