"""The facts of a run -> its page as HTML: what each template shows, and the pictures among it.

Whatever a user or a model wrote is text to the template, which escapes it; only pictures drawn here are let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from linnet import __version__
from linnet.report import origin, page, writing
from linnet.report.facts import PageFacts
from linnet.report.limits import limits
from linnet.run.rows import probes
from linnet.tokenizers.pieces import visible

if TYPE_CHECKING:
    from markupsafe import Markup

PICTURE = (3.7, 2.9)
"""inches; so small that its labels have eleven pixels and more on a phone, where the page is 390 pixels wide"""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def render(facts: PageFacts) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("linnet.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    # characters that no HTML may hold, and halves of pairs that no UTF-8 can
    return _CONTROL.sub("�", environment.get_template("report.html").render(**content(facts)))


def content(facts: PageFacts) -> dict[str, Any]:
    """What the template shows."""
    from linnet.plots.diagram import drawing

    return {
        "name": facts.name,
        "linnet_version": __version__,
        "headline": page.headline(facts),
        "figures": page.key_figures(facts),
        "curves": _curves(facts),
        "probed": bool(probes(facts.rows)),
        "evaluations": page.evaluation_table(facts),
        "worth": page.worth(facts),
        "timeline": writing.timeline(facts),
        "samples": [{"when": [], **writing.sample_text(row)} for row in facts.extra.get("samples") or []],
        "conversation": writing.with_exam_notes(facts.extra.get("conversation") or [], facts.evaluation.get("exam")),
        "next_tokens": page.next_tokens(facts),
        "evaluation": page.evaluation(facts),
        "model_rows": page.model_rows(facts),
        "model_parts": page.model_parts(facts),
        "drawing": drawing(facts.model),
        "data": page.data_card(facts),
        "tokenizer": _tokenizer(facts),
        "limits": limits(facts),
        "settings": origin.settings(facts),
        "provenance": origin.provenance(facts),
        "usage": origin.usage(facts),
    }


def _picture(prefix: str, label: str, draw: Callable[..., None], *arguments: Any) -> Markup:
    """A single panel as an <svg> in the page's colours; it holds numbers and words of ours only."""
    from markupsafe import Markup

    from linnet.plots.figures import PAGE, new_figure, svg

    figure = new_figure(*PICTURE, PAGE, panels=False)
    draw(figure.subplots(), *arguments, palette=PAGE)
    return Markup(svg(figure, prefix, label))


def _curves(facts: PageFacts) -> list[Markup]:
    from linnet.plots import curves

    if not facts.rows:
        return []
    panels: list[tuple[str, str, Callable[..., None]]] = [
        ("loss", "loss over training", partial(curves.draw_loss, counting=facts.counting_loss, figures=False)),
        ("perplexity", "perplexity over training", partial(curves.draw_perplexity, figures=False)),
        ("accuracy", "share of next tokens right over training", curves.draw_accuracy),
        ("rate", "learning rates over training", partial(curves.draw_learning_rate, optim=facts.config.get("optim"))),
        ("gradient", "gradient norm over training", curves.draw_gradient_norm),
        ("speed", "tokens per second over training", curves.draw_speed),
    ]
    return [_picture(prefix, label, draw, facts.rows) for prefix, label, draw in panels]


def _tokenizer(facts: PageFacts) -> dict[str, Any]:
    from linnet.plots import tokenizer

    if facts.sample is None:
        return {}
    pictures = [
        _picture("lengths", "lengths of tokens", partial(tokenizer.draw_lengths, figures=False), facts.sample),
        _picture("ranks", "frequencies of tokens by rank", tokenizer.draw_ranks, facts.sample),
    ]
    listed = {
        name: [visible(token["text"]) for token in facts.sample[key][:count]]
        for name, key, count in (("longest", "longest_tokens", 16), ("frequent", "most_frequent_tokens", 24))
    }
    return {"pictures": pictures, "rows": page.tokenizer_rows(facts.sample), **listed}
