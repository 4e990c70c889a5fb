"""The model as a drawing, in text and as a picture, computed from its configuration.

Shapes: B batch, T positions, C n_embd, H heads, D head size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linnet.model.config import ModelConfig
from linnet.model.costs import flops_per_token, parameter_count
from linnet.plots.figures import LIGHT, Palette, heading, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NORMS = {"layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}
_ACTIVATIONS = {
    "relu": "ReLU",
    "gelu": "GELU",
    "gelu_tanh": "GELU (tanh form)",
    "relu2": "squared ReLU",
    "swiglu": "SwiGLU: silu(gate_proj) × up_proj",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One step of the way from ids to logits."""

    name: str
    """as in the model's code; in brackets what holds no parameters"""
    what: str
    shape: str = ""
    """of what comes out"""
    parameters: int = 0


def before_parts(config: ModelConfig) -> list[Part]:
    """From ids to the residual stream."""
    C, V = config.n_embd, config.vocab_size
    found = [Part("token_embedding", f"table {V:,} × {C}", f"(B, T, {C})", V * C)]
    if config.token_shift:
        what = f"each takes in a share of the {config.token_shift} before it" if config.token_shift > 1 else ""
        what = what or "each takes in a share of the one before it"
        found.append(Part("token_shift", what, "", config.token_shift * C))
    if config.position == "learned":
        found.append(Part("position_embedding", f"table {config.block_size:,} × {C}, added", "", config.block_size * C))
    if config.embedding_norm:
        found.append(_norm("embedding_norm", config))
    return found


def attention_parts(config: ModelConfig, layer: int) -> list[Part]:
    """Attention of one block."""
    C, H, K, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
    q, out = H * D, H * D + 2 * K * D
    bias = " + bias" if config.qkv_bias else ""
    qkv = Part("qkv_proj", f"{C} → {q} + {K * D} + {K * D}{bias}", f"(B, T, {out})", C * out + config.qkv_bias * out)
    groups = f"{H} heads of size {D}" if K == H else f"{H} heads of size {D}, {K} for keys and values"
    found = [qkv]
    if config.has_value_embedding(layer):
        table = f"table {config.vocab_size:,} × {K * D}, added to the values"
        found.append(Part("value_embedding", table, "", config.vocab_size * K * D))
    found.append(Part("[heads]", groups, f"(B, {H}, T, {D})"))
    if config.qk_norm:
        sharper = f", q × {config.qk_scale:g}" if config.qk_scale != 1 else ""
        found.append(Part("[qk norm]", "q and k scaled to one length" + sharper))
    if config.qk_gain:
        found.append(Part("q_norm, k_norm", f"each of their {D} dimensions times a gain", "", 2 * D))
    if config.position == "rotary":
        found.append(Part("[rotary]", f"q and k turned by position, base {config.rope_theta:,.0f}"))
    seen = "up to here in its document" if config.within_documents else "never of later positions"
    found.append(Part("[softmax]", f"of q·k / √{D}, {seen}", f"(B, {H}, T, T)"))
    bias = " + bias" if config.linear_bias else ""
    found.append(Part("o_proj", f"{q} → {C}{bias}", f"(B, T, {C})", q * C + config.linear_bias * C))
    return found


def mlp_parts(config: ModelConfig) -> list[Part]:
    """The MLP of one block."""
    C, hidden, biased = config.n_embd, config.hidden_size, config.linear_bias
    bias = " + bias" if biased else ""
    up = C * hidden + biased * hidden
    found = [Part("up_proj", f"{C} → {hidden}{bias}", f"(B, T, {hidden})", up)]
    if config.activation == "swiglu":
        found.append(Part("gate_proj", f"{C} → {hidden}{bias}", f"(B, T, {hidden})", up))
    found.append(Part("[activation]", _ACTIVATIONS[config.activation]))
    found.append(Part("down_proj", f"{hidden} → {C}{bias}", f"(B, T, {C})", hidden * C + biased * C))
    return found


def after_parts(config: ModelConfig) -> list[Part]:
    """From the residual stream to logits."""
    C, V = config.n_embd, config.vocab_size
    bias = " + bias" if config.head_bias else ""
    matrix = "the matrix of token_embedding" if config.tie_embeddings else f"{C} → {V:,}"
    count = (0 if config.tie_embeddings else V * C) + (V if config.head_bias else 0)
    head = Part("lm_head", f"{matrix}{bias}", f"(B, T, {V:,})", count)
    return [_norm("final_norm", config), head]


def _norm(name: str, config: ModelConfig) -> Part:
    biased = config.norm == "layernorm" and config.norm_bias
    kind = _NORMS[config.norm] + (" with bias" if biased else "")
    return Part(name, kind, f"(B, T, {config.n_embd})", config.n_embd * (2 if biased else 1))


def block_parameters(config: ModelConfig, layer: int) -> int:
    """Parameters of block `layer`."""
    parts = [*attention_parts(config, layer), *mlp_parts(config)]
    return sum(part.parameters for part in parts) + 2 * _norm("", config).parameters


def architecture_diagram(config: ModelConfig) -> str:
    """A drawing in text, 100 characters wide, with the shape and the parameters of each part."""
    lines = [
        f"A decoder-only transformer with {parameter_count(config):,} parameters.",
        f"B texts at a time, T tokens of each, at most {config.block_size:,}. In [brackets]: steps without parameters.",
        "",
        _row("  ids", shape="(B, T)"),
        "   │",
    ]
    before = before_parts(config)
    lines += [_line("   ▼ ", before[0]), *(_line("   │ ", part) for part in before[1:])]
    if config.dropout:
        lines.append(_line("   │ ", _dropout(config)))
    lines.append("   │")
    groups = _block_groups(config)
    for group in groups:
        lines += _block(config, group, alternating=len(groups) > 1)
    lines += [_line("   ▼ ", part) for part in after_parts(config)]
    lines += ["   │", "   ▼", _row("  logits", "a score for each token that may follow"), ""]
    lines.append(_row("  in all", count=parameter_count(config)))
    lines += [f"  {line}" for line in _costs(config)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _dropout(config: ModelConfig) -> Part:
    return Part("[dropout]", f"{config.dropout:g}: here, of attention weights, after o_proj and down_proj")


def _costs(config: ModelConfig) -> list[str]:
    return [
        f"to train on one token: {flops_per_token(config) / 1e6:,.1f} million operations on numbers, context full",
        f"initial weights: {config.init}",
    ]


def _block_groups(config: ModelConfig) -> list[list[int]]:
    """Layers whose blocks are alike, and so are drawn once."""
    kinds: dict[bool, list[int]] = {}
    for layer in range(config.n_layer):
        kinds.setdefault(config.has_value_embedding(layer), []).append(layer)
    return list(kinds.values())


def _block_title(config: ModelConfig, layers: list[int], alternating: bool) -> str:
    count = f"{block_parameters(config, layers[0]):,} parameters"
    blocks = f"{len(layers)} block{'s' if len(layers) > 1 else ''}"
    if alternating:
        blocks += ", in turn with the other kind"
    elif len(layers) > 1:
        blocks += " one after another"
    return f"{blocks}: {count}{' each' if len(layers) > 1 else ''}"


def _block(config: ModelConfig, layers: list[int], alternating: bool) -> list[str]:
    """A block as a box, with the residual stream on its left."""
    top = f"┌──┼─ {_block_title(config, layers, alternating)} "
    lines = [top + "─" * (WIDTH - len(top) - 1) + "┐"]
    for name, parts in (("attention_norm", attention_parts(config, layers[0])), ("mlp_norm", mlp_parts(config))):
        norm = _norm(name, config)
        inside = parts if config.norm_placement == "post" else [norm, *parts]
        lines.append(_boxed("├────────╮", Part("", "a copy is taken")))
        lines += [_boxed("│        │ ", part) for part in inside]
        lines.append(_boxed("⊕◀───────╯", Part("", "and what came of it is added")))
        if config.norm_placement == "post":
            lines.append(_boxed("▼ ", norm))
    bottom = "└──┼─"
    return [*lines, bottom + "─" * (WIDTH - len(bottom) - 1) + "┘", "   │"]


WIDTH = 100
_NAME, _WHAT, _SHAPE, _COUNT = 30, 43, 15, 11


def _row(name: str, what: str = "", shape: str = "", count: int | None = None) -> str:
    return f"{name:<{_NAME}}{what:<{_WHAT}}{shape:<{_SHAPE}}{'' if count is None else f'{count:,}':>{_COUNT}}"


def _line(lead: str, part: Part) -> str:
    return _row(lead + part.name, part.what, part.shape, part.parameters or None)


def _boxed(lead: str, part: Part) -> str:
    """A line between the walls of a block."""
    return f"{_line('│  ' + lead, part).rstrip():<{WIDTH - 1}}│"


def drawing(config: ModelConfig) -> dict[str, Any]:
    """The same for the page, which draws it in its own boxes: `before` and `after` (parts on the residual stream, each
    with the name of its colour), `blocks` with their two branches, `sentences`."""
    blocks = []
    groups = _block_groups(config)
    for layers in groups:
        branches = []
        for name, parts, fill in (
            ("attention_norm", attention_parts(config, layers[0]), "attention"),
            ("mlp_norm", mlp_parts(config), "mlp"),
        ):
            norm, post = (_norm(name, config), "norm"), config.norm_placement == "post"
            inside = [(part, fill) for part in parts]
            branches.append({"parts": inside if post else [norm, *inside], "after": [norm] if post else []})
        title = _block_title(config, layers, alternating=len(groups) > 1)
        blocks.append({"title": title, "branches": branches})
    dropout = [_dropout(config)] if config.dropout else []
    final, head = after_parts(config)
    return {
        "before": [
            (part, "norm" if part.name == "embedding_norm" else "embedding")
            for part in [*before_parts(config), *dropout]
        ],
        "blocks": blocks,
        "after": [(final, "norm"), (head, "embedding")],
        "sentences": [f"B texts at a time, T tokens of each, at most {config.block_size:,}", *_costs(config)],
    }


def architecture_picture(config: ModelConfig, name: str = "", palette: Palette = LIGHT) -> Figure:
    """The same drawing as a picture: the residual stream on the left, what reads from it and adds to it on the right.

    Args:
        name: of the run, for the title.
    """
    figure = new_figure(_RIGHT + 0.2, 1, palette, panels=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    drawing = _Drawing(axes, palette)
    drawing.write(0.2, 0.47, f"B texts at a time, T tokens of each, at most {config.block_size:,}.")
    drawing.write(_SHAPE_AT, 0.85, "shape", fontweight="bold")
    drawing.write(_RIGHT - 0.15, 0.85, "parameters", ha="right", fontweight="bold")
    drawing.write(_STREAM, 0.85, "ids", ha="center", fontweight="bold")
    dropout = [_dropout(config)] if config.dropout else []
    for part in [*before_parts(config), *dropout]:
        drawing.on_stream(part, _NORM if part.name == "embedding_norm" else _EMBEDDING)
    groups = _block_groups(config)
    for layers in groups:
        drawing.block(config, layers, _block_title(config, layers, alternating=len(groups) > 1))
    final, head = after_parts(config)
    drawing.on_stream(final, _NORM)
    drawing.on_stream(head, _EMBEDDING)
    drawing.arrow((_STREAM, drawing.y), (_STREAM, drawing.y + 0.3))
    drawing.write(_STREAM, drawing.y + 0.42, "logits", ha="center", fontweight="bold")
    height = drawing.y + 0.75 + 0.22 * len(_costs(config))
    for number, line in enumerate(_costs(config)):
        drawing.write(0.2, drawing.y + 0.8 + 0.22 * number, line[0].upper() + line[1:] + ".")
    figure.set_size_inches(_RIGHT + 0.2, height)
    axes.set(xlim=(0, _RIGHT + 0.2), ylim=(height, 0))
    heading(figure, palette, name, f"a transformer with {parameter_count(config):,} parameters")
    return figure


_STREAM, _INSIDE, _DOWN, _BOX_END, _SHAPE_AT, _RIGHT = 0.7, 1.2, 1.6, 6.9, 7.05, 9.3
"""across, in inches: the residual stream, boxes of a block, the way through them, their ends, columns of figures"""
_HEIGHT, _GAP = 0.29, 0.15
"""of a box, and between two"""
_EMBEDDING, _NORM, _ATTENTION, _MLP, _STEP = "#fbe6d6", "#ececec", "#d6e9f6", "#d5efe6", "#ffffff"


class _Drawing:
    """Parts from top to bottom; both coordinates in inches from the upper left corner."""

    def __init__(self, axes: Axes, palette: Palette) -> None:
        self.axes, self.palette = axes, palette
        self.y = 0.97
        """where the next part begins"""

    def write(self, x: float, y: float, text: str, **looks: Any) -> None:
        self.axes.text(x, y, text, **{"va": "center", "fontsize": 9, "color": self.palette.ink, **looks})

    def line(self, *points: tuple[float, float]) -> None:
        x, y = zip(*points, strict=True)
        self.axes.plot(x, y, color=self.palette.ink, linewidth=1.1, solid_capstyle="round", zorder=1)

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        looks = {"arrowstyle": "-|>", "color": self.palette.ink, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", end, start, arrowprops=looks, zorder=1)

    def frame(self, left: float, top: float, right: float, bottom: float, colour: str, edge: str, order: int) -> None:
        from matplotlib.patches import FancyBboxPatch

        shape = "round,pad=0,rounding_size=0.06"
        looks: dict[str, Any] = {"facecolor": colour, "edgecolor": edge, "linewidth": 0.9, "zorder": order}
        self.axes.add_patch(FancyBboxPatch((left, top), right - left, bottom - top, boxstyle=shape, **looks))

    def box(self, part: Part, left: float, colour: str) -> None:
        """A part with its figures beside it; those without parameters are white."""
        middle = self.y + _HEIGHT / 2
        colour = _STEP if part.name.startswith("[") else colour
        self.frame(left, self.y, _BOX_END, self.y + _HEIGHT, colour, "#8a8a8a" if colour != _STEP else "#c4c4c4", 2)
        self.write(left + 0.12, middle, part.name.strip("[]"), fontweight="bold" if part.parameters else "normal")
        self.write(3.05, middle, part.what)
        self.write(_SHAPE_AT, middle, part.shape)
        if part.parameters:
            self.write(_RIGHT - 0.15, middle, f"{part.parameters:,}", ha="right")
        self.y += _HEIGHT

    def on_stream(self, part: Part, colour: str) -> None:
        """A part that the residual stream itself goes through."""
        self.arrow((_STREAM, self.y), (_STREAM, self.y + _GAP))
        self.y += _GAP
        self.box(part, 0.35, colour)

    def block(self, config: ModelConfig, layers: list[int], title: str) -> None:
        """A block in its frame: the stream passes by, attention and MLP read a copy and are added to it."""
        self.line((_STREAM, self.y), (_STREAM, self.y + 2 * _GAP))
        self.y += _GAP
        top, self.y = self.y, self.y + _GAP
        self.write(_STREAM + 0.15, self.y, title, fontweight="bold")
        self.branch(config, _norm("attention_norm", config), attention_parts(config, layers[0]), _ATTENTION)
        self.branch(config, _norm("mlp_norm", config), mlp_parts(config), _MLP)
        self.line((_STREAM, self.y), (_STREAM, self.y + _GAP))
        self.y += _GAP
        self.frame(0.15, top, _RIGHT, self.y, "#fafafa", self.palette.faint, 0)

    def branch(self, config: ModelConfig, norm: Part, parts: list[Part], colour: str) -> None:
        """`parts` applied to a copy of the stream, the result added; `norm` stands before them, or after the sum."""
        start, post = self.y, config.norm_placement == "post"
        self.y += _GAP
        self.line((_STREAM, self.y), (_DOWN, self.y))
        above = self.y
        for part in parts if post else [norm, *parts]:
            self.arrow((_DOWN, above), (_DOWN, self.y + _GAP))
            self.y += _GAP
            self.box(part, _INSIDE, _NORM if part is norm else colour)
            above = self.y
        self.y += _GAP
        self.line((_DOWN, above), (_DOWN, self.y))
        self.arrow((_DOWN, self.y), (_STREAM + 0.1, self.y))
        self.line((_STREAM, start), (_STREAM, self.y))
        ink, paper = self.palette.ink, self.palette.paper
        self.axes.plot(_STREAM, self.y, "o", markersize=13, markerfacecolor=paper, markeredgecolor=ink, zorder=3)
        self.write(_STREAM, self.y, "+", ha="center", fontsize=11, zorder=4)
        self.y += 0.1
        if post:
            self.on_stream(norm, _NORM)
