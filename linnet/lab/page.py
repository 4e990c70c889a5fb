"""The page: a run and its settings at the side, a chat or a text to continue in the middle."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

import linnet
from linnet.errors import UserError
from linnet.generate.sampling import Sampling
from linnet.lab.runs import RunCard, list_runs
from linnet.run import Run
from linnet.train.sample import GREETING, LOOKED_AT, opening_turns

if TYPE_CHECKING:
    from linnet.generate.chat import Conversation
    from linnet.lm import LM

BIRD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#b5475b" d="M3 12l7 1a8 8 0 0 1 14-3l5-1-4'
    ' 4a11 11 0 0 1-11 13l-9 3 5-5a9 9 0 0 1-7-12z"/><circle cx="20.5" cy="11.5" r="1.4" fill="#fff"/></svg>'
)
"""the tab's picture; a named icon would be fetched from elsewhere"""

EXAMPLES = 4
"""questions that an empty chat suggests, at most"""

PLAIN_QUESTION = re.compile(r"[^\W\d_](?:[^\W_]|[ ,.!'’-]){0,78}\?")
"""what can stand on a button, whose label is Markdown, without being taken for markup"""

AVATARS = {"user": ":material/person:", "assistant": ":material/raven:", "system": ":material/settings:"}


def page(folder: Path) -> None:
    """Draws the page; called anew at every click."""
    st.set_page_config(page_title="Linnet", page_icon=BIRD, layout="centered")
    try:
        cards = list_runs(folder)
    except UserError as error:
        st.error(plain(str(error)))
        return
    if not cards:
        st.info(f"There is no run in {plain(str(folder))} yet; `linnet demo` makes one in minutes.")
        return
    with st.sidebar:
        st.title("Linnet", anchor=False)
        card = pick(cards)
        new_chat = card.chats and st.button("New chat", icon=":material/add:", width="stretch")
        sampling = settings()
    if card.problem:
        st.error(plain(card.problem))
        return
    try:
        lm = loaded(str(card.path), card.saved)
    except Exception as error:  # files of any origin; the other runs can still be picked
        st.error(plain(f"{card.name} cannot be loaded: {error}"))
        return
    try:
        if card.chats:
            chat(conversation(lm, card, new_chat), sampling, examples(str(card.path), card.saved))
        else:
            continuation(lm, card, sampling)
    except UserError as error:
        st.error(plain(str(error)))


def plain(text: str) -> str:
    """A text that Streamlit's Markdown shows as it is: code, between more backticks than it has in a row."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {' '.join(text.split())} {fence}"


def pick(cards: list[RunCard]) -> RunCard:
    """The run that is chosen at the side."""
    by_path = {str(card.path): card for card in cards}
    path = st.selectbox("Run", list(by_path), format_func=lambda path: by_path[path].label, key="run")
    card = by_path.get(path or "", cards[0])
    if not card.problem:
        st.caption(card.facts)
    return card


def settings() -> Sampling:
    """How text is drawn, from the sliders at the side."""
    st.divider()
    temperature = st.slider(
        "Temperature", 0.0, 2.0, 0.5, 0.05, help="Higher is more surprising; 0 always takes the likeliest token."
    )
    greedy = temperature == 0
    top_k = st.slider("Top-k", 0, 200, 0, help="Draw from the k likeliest tokens only; 0: from all.", disabled=greedy)
    top_p = st.slider(
        "Top-p", 0.0, 1.0, 1.0, 0.01, help="Draw from the likeliest tokens that sum to p; 1: from all.", disabled=greedy
    )
    penalty = st.slider(
        "Repetition penalty", 1.0, 2.0, 1.0, 0.05, help="Above 1, what was said already becomes less likely."
    )
    return sampling_of(temperature, top_k, top_p, penalty)


def sampling_of(temperature: float, top_k: int, top_p: float, penalty: float) -> Sampling:
    """The positions of the sliders as `Sampling`; a filter at its end of no effect is off."""
    return Sampling(
        temperature=temperature,
        top_k=top_k or None,
        top_p=top_p if top_p < 1 else None,
        repetition_penalty=penalty,
    )


@st.cache_resource(max_entries=3, show_spinner="Loading the run")
def loaded(path: str, saved: float) -> LM:
    """The model in `path`; `saved` makes a checkpoint that has changed another model."""
    return linnet.load(path)


@st.cache_data(max_entries=20, show_spinner=False)
def examples(path: str, saved: float) -> list[str]:
    """A greeting and questions from the run's own validation split, as far as that can be read."""
    found: list[str] = []
    with contextlib.suppress(UserError, OSError, KeyError, TypeError):  # the data may be gone, or be anyone's
        split = Run.open(path).data().split("val")
        found = [turns[-1]["content"] for turns in opening_turns(loaded(path, saved), split, LOOKED_AT)]
    return [GREETING, *[text for text in found if PLAIN_QUESTION.fullmatch(text)][:EXAMPLES]]


def conversation(lm: LM, card: RunCard, new: bool) -> Conversation:
    """This visitor's conversation with a run; each run has one, and a new one replaces it."""
    talks: dict[str, Conversation] = st.session_state.setdefault("talks", {})
    talk = talks.get(str(card.path))
    if new or talk is None or talk.model is not lm.model:
        said = [] if new or talk is None else talk.messages
        talk = talks[str(card.path)] = lm.conversation()
        talk.messages = list(said)  # a newer checkpoint goes on with the same chat
    return talk


def chat(talk: Conversation, sampling: Sampling, suggestions: list[str]) -> None:
    """What was said, and the next turn; an empty chat has something to click."""
    for message in talk.messages:
        with st.chat_message(message["role"], avatar=AVATARS[message["role"]]):
            st.text(message["content"])
    text = st.chat_input("Say something", submit_mode="stop")
    if not talk.messages:
        text = suggested(suggestions, text)
    if not text:
        return
    talk.sampling = sampling
    with st.chat_message("user", avatar=AVATARS["user"]):
        st.text(text)
    with st.chat_message("assistant", avatar=AVATARS["assistant"]):
        grow(talk.stream(text))


def suggested(suggestions: list[str], typed: str | None) -> str | None:
    """What was typed, or else the suggestion that was clicked; they go as soon as there is either."""
    place = st.empty()
    if typed:
        return typed
    with place.container():
        st.caption("A small model, on this machine alone. Say hello, or ask one of these:")
        with st.container(horizontal=True):
            clicked = [text for number, text in enumerate(suggestions) if st.button(text, key=f"suggestion {number}")]
    if clicked:
        place.empty()
    return clicked[0] if clicked else None


def continuation(lm: LM, card: RunCard, sampling: Sampling) -> None:
    """A text, and what the model adds to it."""
    written: dict[str, str] = st.session_state.setdefault("written", {})
    st.subheader("Continue this text", anchor=False)
    with st.form("continuation", border=False):  # the text and the click arrive together
        prompt = st.text_area(
            "Continue this text", height=140, placeholder="Once upon a time", label_visibility="collapsed", key="prompt"
        )
        clicked = st.form_submit_button("Continue", type="primary")
    place = str(card.path)
    if clicked:
        stop = st.empty()
        stop.button("Stop", icon=":material/stop:")  # a click ends this pass at its next piece
        with st.container(border=True):
            grow(remembered(lm.stream(prompt, **asdict(sampling)), written, place, prompt), prompt)
        stop.empty()
    elif place in written:
        with st.container(border=True):
            st.text(written[place])


def remembered(pieces: Iterator[str], texts: dict[str, str], key: str, start: str) -> Generator[str, None, None]:
    """The pieces; `texts[key]` is `start` and all of them so far."""
    texts[key] = start
    for piece in pieces:
        texts[key] += piece
        yield piece


def grow(pieces: Generator[str, None, None], start: str = "") -> None:
    """Shows a text as it comes, as plain text: a model's stars and dollars are no markup."""
    box = st.empty()
    said = start
    box.text(said)
    with contextlib.closing(pieces):  # when the visitor stops it, here and now
        for piece in pieces:
            said += piece
            box.text(said)
    if said == start:
        st.caption("The model ended its text at once.")
