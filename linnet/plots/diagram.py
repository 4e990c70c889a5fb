"""The model as a drawing in text, computed from its configuration.

Shapes: B batch, T positions, C n_embd, H heads, D head size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from linnet.console import size_text
from linnet.model.config import ModelConfig, flops_per_token, parameter_count, training_bytes

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
    if config.position == "learned":
        found.append(Part("position_embedding", f"table {config.block_size:,} × {C}, added", "", config.block_size * C))
    if config.embedding_norm:
        found.append(_norm("embedding_norm", config))
    return found


def attention_parts(config: ModelConfig, layer: int) -> list[Part]:
    """Attention of one block."""
    C, H, K, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
    out = C + 2 * K * D
    bias = " + bias" if config.qkv_bias else ""
    qkv = Part("qkv_proj", f"{C} → {C} + {K * D} + {K * D}{bias}", f"(B, T, {out})", C * out + config.qkv_bias * out)
    groups = f"{H} heads of size {D}" if K == H else f"{H} heads of size {D}, {K} for keys and values"
    found = [qkv]
    if config.has_value_embedding(layer):
        table = f"table {config.vocab_size:,} × {K * D}, added to the values"
        found.append(Part("value_embedding", table, "", config.vocab_size * K * D))
    found.append(Part("[heads]", groups, f"(B, {H}, T, {D})"))
    if config.qk_norm:
        found.append(Part("[qk norm]", "q and k scaled to one length"))
    if config.position == "rotary":
        found.append(Part("[rotary]", f"q and k turned by position, base {config.rope_theta:,.0f}"))
    found.append(Part("[softmax]", f"of q·k / √{D}, never of later positions", f"(B, {H}, T, T)"))
    bias = " + bias" if config.linear_bias else ""
    found.append(Part("o_proj", f"{C} → {C}{bias}", f"(B, T, {C})", C * C + config.linear_bias * C))
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
        where = "here, of attention weights, after o_proj and down_proj"
        lines.append(_row("   │ [dropout]", f"{config.dropout:g}: {where}"))
    lines.append("   │")
    groups = _block_groups(config)
    for group in groups:
        lines += _block(config, group, alternating=len(groups) > 1)
    lines += [_line("   ▼ ", part) for part in after_parts(config)]
    lines += ["   │", "   ▼", _row("  logits", "a score for each token that may follow"), ""]
    lines.append(_row("  in all", count=parameter_count(config)))
    lines += [
        f"  to train on one token: {flops_per_token(config) / 1e6:,.1f} million operations on numbers, context full",
        f"  memory to train: about {size_text(training_bytes(config, 1))} with one window at a time",
        f"  initial weights: {config.init}",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _block_groups(config: ModelConfig) -> list[list[int]]:
    """Layers whose blocks are alike, and so are drawn once."""
    kinds: dict[bool, list[int]] = {}
    for layer in range(config.n_layer):
        kinds.setdefault(config.has_value_embedding(layer), []).append(layer)
    return list(kinds.values())


def _block(config: ModelConfig, layers: list[int], alternating: bool) -> list[str]:
    """A block as a box, with the residual stream on its left."""
    count = f"{block_parameters(config, layers[0]):,} parameters"
    blocks = f"{len(layers)} block{'s' if len(layers) > 1 else ''}"
    if alternating:
        blocks += ", in turn with the other kind"
    elif len(layers) > 1:
        blocks += " one after another"
    top = f"┌──┼─ {blocks}: {count}{' each' if len(layers) > 1 else ''} "
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
