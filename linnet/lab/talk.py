"""The middle of the page: a chat with a run, or a text that is written with it.

Callbacks take down what is typed and clicked, before the page is drawn; so it can be drawn in reading order.
"""

from __future__ import annotations

import contextlib

import streamlit as st

from linnet.errors import UserError
from linnet.generate.draft import Passage
from linnet.generate.sampling import Sampling
from linnet.lab.desk import Desk
from linnet.lab.show import coloured, copy_button, grow, plain, remark, words

AVATARS = {"user": ":material/person:", "assistant": ":material/raven:", "system": ":material/settings:"}

AGAIN = "Takes the answer back and draws another; with a seed, or at temperature 0, it is the same one."


def chat(desk: Desk, sampling: Sampling, suggestions: list[str]) -> None:
    """What was said, and the next turn; an empty chat has something to click."""
    for message in desk.messages:
        with st.chat_message(message["role"], avatar=AVATARS[message["role"]]):
            st.html(words(message["content"]))
    asked = st.session_state.pop("asked", None)
    if asked:
        with st.chat_message("user", avatar=AVATARS["user"]):
            st.html(words(asked))
        with st.chat_message("assistant", avatar=AVATARS["assistant"]):
            try:
                grow(desk.answer(asked, sampling))
            except Exception as error:
                st.error(plain(failure(error)))
                st.session_state["say"] = asked  # what was typed is not lost
    elif not any(message["role"] == "user" for message in desk.messages):
        suggest(suggestions)
    if desk.messages and desk.messages[-1]["role"] == "assistant":
        with st.container(horizontal=True):
            st.button("Again", icon=":material/refresh:", help=AGAIN, on_click=_ask_again, args=[desk])
            copy_button(desk.messages[-1]["content"])
            st.button("New chat", icon=":material/add:", on_click=desk.forget_chat)
    st.chat_input("Say something", key="say", submit_mode="stop", on_submit=_ask)


def suggest(suggestions: list[str]) -> None:
    """Something to click for those who do not know what to say."""
    remark("A small model, on this machine alone. Say hello, or ask one of these:")
    with st.container(horizontal=True):
        for number, text in enumerate(suggestions):
            st.button(text, key=f"suggestion {number}", on_click=_ask, args=[text])


def _ask(text: str | None = None) -> None:
    st.session_state["asked"] = st.session_state["say"] if text is None else text


def _ask_again(desk: Desk) -> None:
    st.session_state["asked"] = desk.unsay()


def writing(desk: Desk, sampling: Sampling) -> None:
    """The text so far, the visitor's part and the model's in two colours, and where it goes on."""
    typed = st.session_state.pop("typed", None)
    if typed is not None:
        _write(desk, typed, sampling)
    elif desk.passages:
        with st.container(border=True):
            st.html(coloured(desk.passages))
    begun = bool(desk.passages)
    if desk.text.draft.ended:
        remark("The model ended its text here; type on, or begin a new one.")
    label = "Go on where it stops, or let the model write on" if begun else "Begin a text"
    with st.form("continuation", border=False):  # the text and the click arrive together
        st.text_area(
            label, height=140 if not begun else 90, placeholder=None if begun else "Once upon a time", key="prompt"
        )
        st.form_submit_button("Continue", on_click=_type)
    if begun:
        with st.container(horizontal=True):
            st.button("Again", icon=":material/refresh:", help=AGAIN, on_click=_type_again, args=[desk])
            copy_button(desk.text.draft.text)
            st.button("New text", icon=":material/add:", on_click=desk.forget_text)


def _write(desk: Desk, typed: str, sampling: Sampling) -> None:
    """The text, as it grows."""
    with st.container(border=True):
        box = st.empty()
    stop = st.empty()
    stop.button("Stop", icon=":material/stop:")  # a click ends this pass at its next piece
    before, written = desk.passages, ""
    box.html(coloured([*before, Passage(typed, written)]))
    try:
        with contextlib.closing(desk.write(typed, sampling)) as pieces:
            for piece in pieces:
                written += piece
                box.html(coloured([*before, Passage(typed, written)]))
    except Exception as error:
        st.error(plain(failure(error)))
        st.session_state["prompt"] = typed  # what was typed is not lost
    stop.empty()


def _type() -> None:
    st.session_state["typed"], st.session_state["prompt"] = st.session_state["prompt"], ""


def _type_again(desk: Desk) -> None:
    st.session_state["typed"] = desk.unwrite()


def failure(error: Exception) -> str:
    """What to tell the visitor of an answer that failed, as a sentence."""
    if isinstance(error, UserError):
        return str(error)
    return f"the answer could not be finished ({type(error).__name__}: {error}); try a shorter length, or another run"
