"""The page: a run and its settings at the side, a chat or a text to continue in the middle.

The address says which run, which chat and what to do, so that a page that is loaded anew is the same page.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

import linnet
from linnet.errors import UserError
from linnet.lab.desk import Desk
from linnet.lab.kept import Shelf
from linnet.lab.runs import facts_line, label, list_runs, problem_of, run_card
from linnet.lab.show import fenced, plain, remark
from linnet.lab.sidebar import settings
from linnet.lab.talk import chat, writing
from linnet.run import Run
from linnet.run.opened import holds_model_alone
from linnet.run.summary import Summary
from linnet.training.sample import GREETING, LOOKED_AT, opening_turns

if TYPE_CHECKING:
    from linnet.lm import LM

BIRD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#b5475b" d="M3 12l7 1a8 8 0 0 1 14-3l5-1-4'
    ' 4a11 11 0 0 1-11 13l-9 3 5-5a9 9 0 0 1-7-12z"/><circle cx="20.5" cy="11.5" r="1.4" fill="#fff"/></svg>'
)
"""the tab's picture; a named icon would be fetched from elsewhere"""

EVERY_S = 3
"""how often states, steps and losses are looked at; nothing else of the page is touched by that"""

EXAMPLES = 4
"""questions that an empty chat suggests, at most"""

PLAIN_QUESTION = re.compile(r"[^\W\d_](?:[^\W_]|[ ,.!'’-]){0,78}\?")
"""what can stand on a button, whose label is Markdown, without being taken for markup"""

CHAT, WRITE = "Chat", "Continue a text"


def page(folder: Path) -> None:
    """Draws the page; called anew at every click."""
    st.set_page_config(page_title="Linnet", page_icon=BIRD, layout="centered")
    st.session_state["drawn"] = None
    with st.sidebar:
        st.title("Linnet", anchor=False)
        card = pick(folder)
    if card is None:
        return
    st.session_state["drawn"] = drawn(card)
    st.set_page_config(page_title=f"{card.name} – Linnet")
    if notice := st.session_state.pop("notice", None):
        st.warning(notice)
    headline(card)
    lm = model_of(card)
    if lm is None:
        return
    desk = desk_of(lm, card)
    talks = card.chats and (
        st.segmented_control(
            "What to do",
            [CHAT, WRITE],
            default=CHAT,
            required=True,
            key="do",
            bind="query-params",
            label_visibility="collapsed",
        )
        == CHAT
    )
    with st.sidebar:
        if talks:
            system(desk, card)
        sampling = settings()
    if talks:
        chat(desk, sampling, examples(str(card.path), card.saved))
    else:
        writing(desk, sampling)


@st.fragment(run_every=EVERY_S)
def pick(folder: Path) -> Summary | None:
    """The run that is chosen at the side; None if there is none. The list is always that of now."""
    try:
        cards = [known(card) for card in list_runs(folder)]
    except UserError as error:
        st.error(plain(str(error)))
        return None
    if not cards:
        st.info(f"There is no run in {plain(str(folder))} yet; `linnet demo` makes one in minutes.")
        return None
    by_path = {str(card.path): card for card in cards}
    if st.session_state.get("run") not in by_path:
        st.session_state["run"] = addressed(cards)
    path = st.selectbox("Run", list(by_path), format_func=lambda path: label(by_path[path]), key="run")
    card = by_path.get(path, cards[0])
    if st.query_params.get("run") != card.name:  # to say it again would be a step in the browser's history
        st.query_params["run"] = card.name
    if st.session_state["drawn"] not in (None, drawn(card)):
        st.rerun()
    return card


def addressed(cards: list[Summary]) -> str:
    """The path of the run that the address names, or of the first; that there is no such run becomes a notice."""
    name = st.query_params.get("run")
    for card in cards:
        if card.name == name:
            return str(card.path)
    if name:
        st.session_state["notice"] = f"No run is called {fenced(name)} here any more; this is another one."
    return str(cards[0].path)


def drawn(card: Summary) -> tuple[Path, str]:
    """What the middle of the page depends on: with another run, or another problem, it is drawn anew."""
    return card.path, card.problem


@st.fragment(run_every=EVERY_S)
def headline(card: Summary) -> None:
    """The run's name, which narrow screens show nowhere else, and what it is doing."""
    card = known(run_card(card.path, card.name))
    st.subheader(plain(card.name), anchor=False)
    remark(facts_line(card))
    if card.problem:
        (st.info if card.state == "training" else st.error)(plain(card.problem))


def known(card: Summary) -> Summary:
    """The card, with what was found out when its weights were read."""
    problem = problems().get((str(card.path), card.saved))
    return replace(card, state="damaged", problem=problem) if problem else card


@st.cache_resource(show_spinner=False)
def problems() -> dict[tuple[str, float], str]:
    """Why checkpoints could not be loaded, by run and time of writing."""
    return {}


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """What was said and written at every address of this server."""
    return Shelf()


def model_of(card: Summary) -> LM | None:
    """The model of a run; None if it cannot be loaded, which the headline tells."""
    if card.problem:
        return None
    try:
        return loaded(str(card.path), card.saved)
    except Exception as error:  # files of any origin; the other runs can still be picked
        if card.state == "training":  # its checkpoint may have been replaced just now
            st.error(plain(problem_of(error)))
        else:
            problems()[str(card.path), card.saved] = problem_of(error)
            st.rerun()
        return None


@st.cache_resource(max_entries=3, show_spinner="Loading the run")
def loaded(path: str, saved: float) -> LM:
    """The model in `path`; `saved` makes a checkpoint that has changed another model."""
    alone = holds_model_alone(Path(path))
    return linnet.load(path, checkpoint="best" if alone else Run(Path(path)).checkpoint_to_talk_to())


@st.cache_data(max_entries=20, show_spinner=False)
def examples(path: str, saved: float) -> list[str]:
    """A greeting and questions from the run's own validation split, as far as that can be read."""
    found: list[str] = []
    with contextlib.suppress(UserError, OSError, KeyError, TypeError):  # the data may be gone, or be anyone's
        split = Run.open(path).data().split("val")
        found = [turns[-1]["content"] for turns in opening_turns(loaded(path, saved), split, LOOKED_AT)]
    return [GREETING, *[text for text in found if PLAIN_QUESTION.fullmatch(text)][:EXAMPLES]]


def desk_of(lm: LM, card: Summary) -> Desk:
    """This visitor's chat and text with a run; a newer checkpoint goes on with the same."""
    name = st.query_params.get("chat")
    if name is None or not shelf().knows(name):
        if name is not None:
            st.warning("This chat is no longer kept: the lab was started anew since, or many others came after it.")
        name = st.query_params["chat"] = shelf().new_chat()
    desks: dict[tuple[str, str], Desk] = st.session_state.setdefault("desks", {})
    place = name, str(card.path)
    desk = desks.get(place)
    if desk is None or desk.lm.model is not lm.model:
        desk = desks[place] = Desk(lm, shelf(), *place)
    return desk


def system(desk: Desk, card: Summary) -> None:
    """Where the system prompt is typed; why the model cannot have one is said below it."""
    talk = desk.talk
    assert talk is not None, "this run does not chat"
    text = st.text_area(
        "System prompt",
        talk.conversation.system or "",
        height=90,
        key=f"system {card.path}",
        placeholder="none",
        help="Stands before the chat and stays when the context overflows.",
    )
    try:
        desk.set_system(text.strip())
    except UserError as error:
        st.error(plain(str(error)))
