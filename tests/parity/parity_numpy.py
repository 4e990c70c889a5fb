"""The transformer written out in NumPy, in float64, one position and one head at a time: slow, and right by reading.

It shares nothing with the model but the configuration and the names of the weights. Nothing here runs on batches:
`ids` is one text of T ids, `x` its residual stream (T, C), `W` the weights by name.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from linnet.model.config import ModelConfig

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def logits(config: ModelConfig, W: Weights, ids: Sequence[int]) -> Array:
    """(T, V): for each position the scores of what follows it."""
    x = W["token_embedding.weight"][list(ids)]
    if config.token_shift:
        own = x
        x = np.array([own[t] + shifted_in(config, W, ids, own, t) for t in range(len(ids))])
    if config.position == "learned":
        x = x + W["position_embedding.weight"][: len(ids)]
    if config.embedding_norm:
        x = norm(config, W, "embedding_norm", x)
    for layer in range(config.n_layer):
        at = f"blocks.{layer}"
        if config.norm_placement == "pre":
            x = x + attention(config, W, layer, ids, norm(config, W, f"{at}.attention_norm", x))
            x = x + mlp(config, W, layer, norm(config, W, f"{at}.mlp_norm", x))
        else:
            x = norm(config, W, f"{at}.attention_norm", x + attention(config, W, layer, ids, x))
            x = norm(config, W, f"{at}.mlp_norm", x + mlp(config, W, layer, x))
    x = norm(config, W, "final_norm", x)
    if config.tie_embeddings:
        return x @ W["token_embedding.weight"].T + W.get("lm_head.bias", 0.0)
    return linear(W, "lm_head", x)


def shifted_in(config: ModelConfig, W: Weights, ids: Sequence[int], own: Array, t: int) -> Array:
    """(C,): the shares that position t takes in of the embeddings before it, in its document."""
    total = np.zeros(config.n_embd)
    for distance in range(1, config.token_shift + 1):
        if t >= distance and may_look(config, ids, t, t - distance):
            total += W["token_shift"][distance - 1] * own[t - distance]
    return total


def loss(config: ModelConfig, W: Weights, rows: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> float:
    """The sum of -ln p(label) over all labels that are not negative."""
    total = 0.0
    for ids, wanted in zip(rows, labels, strict=True):
        for scores, label in zip(logits(config, W, ids), wanted, strict=True):
            if label >= 0:
                total -= math.log(softmax(scores)[label])
    return total


def attention(config: ModelConfig, W: Weights, layer: int, ids: Sequence[int], x: Array) -> Array:
    """(T, C): each position's mix of the values of those it may look at."""
    at, T = f"blocks.{layer}.attention", len(ids)
    D = config.head_dim or config.n_embd // config.n_head
    kv_heads = config.n_kv_head or config.n_head
    q, k, v = np.split(linear(W, f"{at}.qkv_proj", x), [config.n_head * D, (config.n_head + kv_heads) * D], axis=1)
    if f"{at}.value_embedding.weight" in W:
        v = v + W[f"{at}.value_embedding.weight"][list(ids)]
    scale = config.qk_scale if config.qk_norm else 1.0
    q_gain, k_gain = W.get(f"{at}.q_norm"), W.get(f"{at}.k_norm")
    mixed = np.zeros((T, config.n_head * D))
    for head in range(config.n_head):
        mine = slice(head * D, (head + 1) * D)
        group = head // (config.n_head // kv_heads)  # heads beside each other share keys and values
        shared = slice(group * D, (group + 1) * D)
        queries = [prepared(config, q[t, mine], t, q_gain) * scale for t in range(T)]
        keys = [prepared(config, k[t, shared], t, k_gain) for t in range(T)]
        for t in range(T):
            seen = [s for s in range(t + 1) if may_look(config, ids, t, s)]
            weights = softmax(np.array([queries[t] @ keys[s] / math.sqrt(D) for s in seen]))
            for weight, s in zip(weights, seen, strict=True):
                mixed[t, mine] += weight * v[s, shared]
    return linear(W, f"{at}.o_proj", mixed)


def may_look(config: ModelConfig, ids: Sequence[int], t: int, s: int) -> bool:
    """Whether position t may look at position s, which is not later: no document begins after s, up to t."""
    return not config.within_documents or config.end_of_text not in ids[s + 1 : t + 1]


def prepared(config: ModelConfig, head: Array, t: int, gain: Array | None) -> Array:
    """(D,): a query or key at position t, normalised and turned as the configuration says."""
    if config.qk_norm:
        head = head / np.sqrt((head**2).mean() + (config.norm_eps or 1e-6)) * (1 if gain is None else gain)
    if config.position == "learned":
        return head
    half = len(head) // 2
    turned = head.copy()
    for i in range(half):
        angle = t * config.rope_theta ** (-i / half)
        a, b = head[i], head[i + half]
        turned[i] = a * math.cos(angle) - b * math.sin(angle)
        turned[i + half] = a * math.sin(angle) + b * math.cos(angle)
    return turned


def mlp(config: ModelConfig, W: Weights, layer: int, x: Array) -> Array:
    """(T, C): two projections with a non-linearity between."""
    at = f"blocks.{layer}.mlp"
    up = linear(W, f"{at}.up_proj", x)
    if config.activation == "swiglu":
        gate = linear(W, f"{at}.gate_proj", x)
        hidden = gate / (1 + np.exp(-gate)) * up
    elif config.activation == "relu":
        hidden = np.maximum(up, 0)
    elif config.activation == "relu2":
        hidden = np.maximum(up, 0) ** 2
    elif config.activation == "gelu":
        hidden = up * (1 + np.vectorize(math.erf)(up / math.sqrt(2))) / 2
    else:
        hidden = up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3))) / 2
    return linear(W, f"{at}.down_proj", hidden)


def norm(config: ModelConfig, W: Weights, name: str, x: Array) -> Array:
    """(T, C): every position on one scale, and with LayerNorm around zero."""
    if config.norm == "rmsnorm":
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + (config.norm_eps or 1e-6)) * W[f"{name}.weight"]
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + (config.norm_eps or 1e-5))
    return scaled * W[f"{name}.weight"] + W.get(f"{name}.bias", 0.0)


def linear(W: Weights, name: str, x: Array) -> Array:
    """(T, out): x Wᵀ + b."""
    return x @ W[f"{name}.weight"].T + W.get(f"{name}.bias", 0.0)


def softmax(scores: Array) -> Array:
    """Positive shares that sum to one."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()
