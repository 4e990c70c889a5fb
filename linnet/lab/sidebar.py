"""How text is drawn, as the visitor says at the side. What differs from the start stands in the address."""

from __future__ import annotations

import streamlit as st

from linnet.generate.sampling import Sampling
from linnet.settings import unescaped


def settings() -> Sampling:
    """How text is drawn."""
    temperature = st.slider(
        *("Temperature", 0.0, 2.0, 0.5, 0.05),
        key="temperature",
        bind="query-params",
        help="Higher is more surprising; 0 always takes the likeliest token.",
    )
    greedy = temperature == 0
    top_k = st.slider(
        *("Top-k", 0, 200, 0),
        key="top-k",
        bind="query-params",
        help="Draw from the k likeliest tokens only; 0: from all.",
        disabled=greedy,
    )
    top_p = st.slider(
        *("Top-p", 0.0, 1.0, 1.0, 0.01),
        key="top-p",
        bind="query-params",
        help="Draw from the likeliest tokens that sum to p; 1: from all.",
        disabled=greedy,
    )
    penalty = st.slider(
        *("Repetition penalty", 1.0, 2.0, 1.0, 0.05),
        key="penalty",
        bind="query-params",
        help="Above 1, what was said already becomes less likely.",
    )
    length = st.number_input(
        *("Length", 1, None, Sampling().max_new_tokens, 50),
        key="length",
        bind="query-params",
        help="Tokens in an answer, at most.",
    )
    seed = st.number_input(
        *("Seed", 0, None, None, 1),
        key="seed",
        bind="query-params",
        placeholder="another each time",
        help="With a seed, the same words before it get the same answer.",
        disabled=greedy,
    )
    stop = st.text_input(
        "Stop at",
        key="stop",
        bind="query-params",
        placeholder="a text that ends the answer",
        help="The answer ends before this text; \\n is a new line.",
    )
    return sampling_of(temperature, top_k, top_p, penalty, length, seed, stop)


def sampling_of(
    temperature: float, top_k: int, top_p: float, penalty: float, length: int, seed: int | None, stop: str
) -> Sampling:
    """What stands at the side as `Sampling`; a filter at its end of no effect is off."""
    return Sampling(
        temperature=temperature,
        top_k=top_k or None,
        top_p=top_p if top_p < 1 else None,
        repetition_penalty=penalty,
        max_new_tokens=length,
        seed=seed,
        stop=(unescaped(stop),) if stop else (),
    )
