"""Texts on the page as they are: no star and no dollar of a model, a file or an error is taken for markup."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from linnet.generate.draft import Passage

CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
"""what an error says in backticks: a command, mostly"""

ORDINARY = re.compile(r"\(?(?:[^\W_]+(?:[./,'’-][^\W_]+)*)?[,;:.?!)]*|[–—·→]")
"""a word, number or path with what stands around it, which Markdown leaves alone"""

LOOK = "white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; line-height: 1.6"
"""how a text stands on the page: its spaces and its lines as they are"""

WRITTEN = "color: light-dark(#9b3045, #e38795); text-decoration: none"
"""how the model's part of a text looks"""

COPY = """
export default ({ data, parentElement }) => {
    const button = parentElement.querySelector("button")
    button.textContent = "Copy"
    button.onclick = async () => {
        try {
            await navigator.clipboard.writeText(data)
            button.textContent = "Copied"
        } catch {
            button.textContent = "The browser does not allow it"
        }
    }
}
"""

COPY_LOOK = """
button {
    font: inherit; font-size: 0.875rem; color: inherit; background: none; cursor: pointer;
    padding: 0.25rem 0.75rem; min-height: 2.5rem;
    border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius, 0.5rem);
}
button:hover, button:focus-visible { color: var(--st-primary-color); border-color: var(--st-primary-color); }
"""


def plain(text: str) -> str:
    """A text as Markdown that shows it as it is: what could be markup stands in code, as commands in errors do."""
    parts = CODE.split(" ".join(text.split()))
    return "".join(fenced(part) if number % 2 else sentence(part) for number, part in enumerate(parts))


def sentence(text: str) -> str:
    """Words as they are, the others as code; neighbours share it."""
    shown: list[str] = []
    odd: list[str] = []
    for word in [*text.split(" "), None]:
        if word is not None and not (ORDINARY.fullmatch(word) and not (not shown and re.match(r"\d+[.)]", word))):
            odd.append(word)
            continue
        if odd:
            shown.append(fenced(" ".join(odd)))
            odd = []
        if word is not None:
            shown.append(word)
    return " ".join(shown)


def fenced(text: str) -> str:
    """Code, between more backticks than it has in a row."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}"


def grow(pieces: Generator[str, None, None]) -> None:
    """Shows an answer as it comes."""
    box = st.empty()
    said = ""
    box.html(words(said))
    with contextlib.closing(pieces):  # when the visitor stops it, here and now
        for piece in pieces:
            said += piece
            box.html(words(said))
    if not said:
        remark("The model ended its text at once.")


def remark(sentence: str) -> None:
    """A sentence in smaller letters. They are as dark as others, which those of a caption are not."""
    st.markdown(f":small[{sentence}]")


def words(text: str) -> str:
    """A text as HTML that shows it to the letter; Streamlit's own `text` takes indentation away."""
    return f"<p style='{LOOK}'>{letters(text)}</p>"


def letters(text: str) -> str:
    """What stands in HTML for a text, on one line: of several, Streamlit and the browser change the ends."""
    return html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;")


def coloured(passages: Sequence[Passage]) -> str:
    """A text that its user and the model wrote in turn, as HTML: the model's parts in a colour, and insertions."""
    parts = [f"{letters(p.typed)}<ins style='{WRITTEN}'>{letters(p.written)}</ins>" for p in passages]
    return f"<p style='{LOOK}' aria-label='The text'>{''.join(parts)}</p>"


@st.cache_resource(show_spinner=False)
def copier() -> Callable[..., object]:
    """The button that copies; Streamlit has none of its own."""
    return st.components.v2.component("linnet_copy", html='<button type="button">Copy</button>', css=COPY_LOOK, js=COPY)


def copy_button(text: str) -> None:
    """Puts `text` on the clipboard when it is clicked."""
    copier()(key="copy", data=text, width="content", height="content")
