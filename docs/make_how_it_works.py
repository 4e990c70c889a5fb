"""Writes docs/how-it-works.md and its pictures: every number in them comes from Linnet's own code, run here."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import torch
from how_it_works_parts import (
    CONFIG,
    STORY,
    TEXTS,
    WORDS,
    Unmoved,
    chatted,
    chosen,
    compared,
    drawn,
    encoded,
    inside,
    learned,
    likeliest,
    orthogonalised,
    remembered,
    scored,
    shard_of,
    shown,
    three_adamw_steps,
    times_told,
    tokens_of,
    trained,
    trapped,
    turned,
    windows_of,
    world,
)
from PIL import Image

from linnet.corpus import stories
from linnet.data import Batches
from linnet.files import write_bytes
from linnet.insight import attention_maps
from linnet.lm import LM
from linnet.model.costs import parameter_count, parameter_table
from linnet.plots.figures import LIGHT, legend, new_figure, png, style
from linnet.plots.insight import draw_attention
from linnet.training.recipe import OptimConfig, ScheduleConfig
from linnet.training.schedule import lr_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent

NOISE = 2e-5
"""how much of itself a number may differ between processors, after a whole training; measured: a quarter of that"""


def fixed(value: float, digits: int = 2) -> str:
    """`value` with so many digits, the same on every machine.

    Float32 sums differ in their last bits between processors, so a number that lies on the border between two
    roundings is refused.

    Raises:
        ValueError: the last digit would be chance; print another number of digits, or begin from another seed.
    """
    scaled = abs(float(value)) * 10**digits
    if abs(scaled % 1 - 0.5) < max(0.003, NOISE * scaled):
        raise ValueError(f"{float(value)!r} lies between two roundings to {digits} digits")
    text = f"{float(value):.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def vector(values: Iterable[float], digits: int = 2, width: int = 7) -> str:
    """Numbers side by side, each `width` wide."""
    return "".join(f"{fixed(value, digits):>{width}}" for value in values)


def attention_map(known: dict[str, Any]) -> Figure:
    """Where the two heads of the tiny model look, with the shares in per cent."""
    labels = known["tokens"]
    figure = new_figure(7.2, 4.1, LIGHT, panels=False)
    for head, weights in enumerate(known["maps"][0]):
        axes = figure.add_axes((0.1 + 0.46 * head, 0.16, 0.43, 0.755))
        draw_attention(axes, weights, LIGHT)
        axes.set_title(f"head {head + 1}", fontsize=11, fontweight="bold", color=LIGHT.ink)
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels if head == 0 else [])
        for row, column in zip(*np.tril_indices(len(labels)), strict=True):
            share = weights[row, column]
            ink = LIGHT.paper if share > 0.2 else LIGHT.ink
            axes.text(
                float(column), float(row), f"{100 * share:.0f}", ha="center", va="center", fontsize=8.5, color=ink
            )
    return figure


def schedules(known: dict[str, Any]) -> Figure:
    """The four schedules over a run of 1,000 steps."""
    figure = new_figure(6.4, 2.9, LIGHT, panels=False)
    figure.subplots_adjust(right=0.96)
    axes = figure.subplots()
    style(axes, LIGHT, "The learning rate over a run of 1,000 steps", "share of the peak", "step")
    looks = {"constant": (LIGHT.ink, 640, 0.93), "stable": (LIGHT.train, 690, 0.72), "cosine": (LIGHT.val, 300, 0.88),
             "linear": (LIGHT.other, 170, 0.63)}  # fmt: skip
    for kind, (colour, x, y) in looks.items():
        steps = range(0, 1001, 5)
        shares = [lr_scale(step, step / 1000, ScheduleConfig(kind=kind)) for step in steps]  # type: ignore[arg-type]
        axes.plot(steps, shares, color=colour, linestyle=":" if kind == "constant" else "-", linewidth=2)
        label = f"{kind} (the default)" if kind == known["schedule_config"].kind else kind
        axes.text(x, y, label, color=colour, fontsize=10, fontweight="bold", va="center")
    axes.set(xlim=(0, 1000), ylim=(0, 1.06))
    return figure


def temperatures(known: dict[str, Any]) -> Figure:
    """The five words at three temperatures, beside each other."""
    figure = new_figure(6.4, 2.7, LIGHT, panels=False)
    axes = figure.subplots()
    figure.subplots_adjust(bottom=0.12)
    style(axes, LIGHT, "The same logits at three temperatures", "probability")
    rows = dict(known["sampling"]["rows"])
    for number, (value, colour) in enumerate((("0.5", LIGHT.train), ("1", LIGHT.other), ("2", LIGHT.val))):
        places = [word + 0.27 * (number - 1) for word in range(len(WORDS))]
        axes.bar(places, rows[f"temperature {value}"], width=0.25, color=colour, label=f"temperature {value}")
    axes.set_xticks(range(len(WORDS)), WORDS)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    legend(axes, LIGHT)
    return figure


def small_png(figure: Figure) -> bytes:
    """The picture as a PNG of at most 64 colours, a third of the bytes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(figure))).convert("RGB").quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


PICTURES = {"attention.png": attention_map, "schedule.png": schedules, "temperature.png": temperatures}


def built_in(count: int = 1000) -> dict[str, Any]:
    """The first story of the built-in world, and bits per character of many."""
    told = list(islice(stories(0), count))
    bits = math.fsum(-story.log_probability for story in told) / math.log(2)
    first = told[0]
    return {
        "count": count,
        "text": first.text,
        "characters": len(first.text),
        "bits": -first.log_probability / math.log(2),
        "mean": bits / sum(len(story.text) for story in told),
    }


def facts(jitter: float = 0.0) -> dict[str, Any]:
    """All that the template prints; `jitter` disturbs the first weights by that share, as other processors would."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # that the vocabulary is smaller than it might be is the point here
    try:
        bpe = learned()
    finally:
        logging.disable(logging.NOTSET)
    tokenizer, small_world = bpe["tokenizer"], world(bpe["tokenizer"])
    split = drawn(tokenizer)
    batches = Batches(split, CONFIG.model.block_size, CONFIG.train.seed)
    ids = [tokenizer.end_of_text, *tokenizer.encode(STORY)]
    model, steps = trained(split, CONFIG, ids, jitter)
    seen = inside(model, ids, place=5)
    lm = LM(model, tokenizer)
    return {
        "world": small_world,
        "texts": TEXTS,
        "bpe": bpe,
        "story": encoded(tokenizer, STORY),
        "unseen": [encoded(tokenizer, text) for text in ("the cat sank.", "Ö")],
        "vocabulary": {"size": tokenizer.vocab_size, "specials": tokenizer.special_ids, "end": tokenizer.end_of_text},
        "split": split,
        "drawn_times": times_told(split, tokenizer),
        "shard": shard_of(split, tokenizer.fingerprint()),
        "windows": windows_of(split, tokenizer, batches),
        "config": CONFIG,
        "model": model.config,
        "parameters": parameter_table(model.config),
        "parameter_count": parameter_count(model.config),
        "maps": attention_maps(model, ids),
        "inside": seen,
        "head": max(range(model.config.n_head), key=lambda head: seen["weights"][head][5][2]),
        "tokens": ["end", *tokens_of(tokenizer, ids[1:])],
        "next": likeliest(seen["logits"][5], tokenizer, ids[6]),
        "unsure": likeliest(seen["logits"][1], tokenizer, ids[2]),
        "scored": scored(model, tokenizer, small_world["nats"]),
        "compared": compared(model, tokenizer, small_world["nats"]),
        "steps": steps,
        "trapped": trapped(split, [*ids, tokenizer.end_of_text], Unmoved),
        "freed": trapped(split, [*ids, tokenizer.end_of_text], Batches),
        "adamw": three_adamw_steps(),
        "muon": orthogonalised(),
        "schedule": [(step, lr_scale(step, step / 1000, ScheduleConfig())) for step in (0, 24, 200, 399, 700, 950)],
        "schedule_config": ScheduleConfig(),
        "optim": OptimConfig(),
        "sampling": chosen(),
        "generated": [(t, lm.generate(temperature=t, seed=seed, max_new_tokens=12))
                      for t, seed in ((0.0, 1), (1.0, 1), (1.0, 2), (2.0, 2))],
        "cache": remembered(model, ids),
        "chat": chatted(tokenizer),
        "rope": turned(),
        "built_in": built_in(),
        "ln": math.log,
    }  # fmt: skip


def page(jitter: float = 0.0, known: dict[str, Any] | None = None) -> str:
    """The whole page."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "fixed": fixed,
        "vector": vector,
        "shown": shown,
        "cell": lambda text: text.replace("|", "\\|"),
    }
    template = environment.from_string((HERE / "how-it-works.md.in").read_text(encoding="utf-8"))
    lines = template.render(**(known or facts(jitter))).split("\n")
    return "\n".join(line.rstrip() for line in lines)  # tables end in a space


if __name__ == "__main__":
    known = facts()
    (HERE / "how-it-works.md").write_text(page(known=known), encoding="utf-8")
    (HERE / "pictures").mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        write_bytes(HERE / "pictures" / name, small_png(draw(known)))
