"""The worked examples of docs/how-it-works.md: each function runs a part of Linnet on something tiny.

Shapes: T positions, C n_embd, H heads, D head size, V vocabulary.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from linnet.corpus.notation import read_grammar
from linnet.corpus.parsing import Parser
from linnet.corpus.sampling import Sampler
from linnet.data import Batches, Split
from linnet.data.shards import HEADER_BYTES, ShardWriter, token_dtype
from linnet.evaluate.by_document import score_documents
from linnet.evaluate.source import compare_with_source
from linnet.evaluate.token_losses import token_losses
from linnet.generate import sampling as samplers
from linnet.generate.cache import StaticCache
from linnet.insight import attention_maps
from linnet.model.attention import manual_attention
from linnet.model.config import ModelConfig
from linnet.model.layers import apply_rope, rope_tables
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer, ChatTemplate
from linnet.tokenizers.pretokenize import GPT2
from linnet.tokenizers.streaming import count_pieces
from linnet.training.budget import Budget
from linnet.training.loop import Loop
from linnet.training.next_token import NextToken, Windows
from linnet.training.optim import Optimizer
from linnet.training.orthogonal import newton_schulz
from linnet.training.recipe import Config, OptimConfig, ScheduleConfig, TrainConfig
from linnet.training.state import State

GRAMMAR = """\
story:
| the bird (3:sat|1:ran). it sang.
| the cat (3:sat|1:ran). it slept.
"""
TEXTS = ["the bird sat. it sang.", "the cat sat. it slept.", "the bird ran. it sang.", "the cat sat. it slept."]
"""what the vocabulary is learned from: few enough to count by hand"""
STORY = TEXTS[0]
DRAWN = 400
"""stories that the tiny model learns from"""

CONFIG = Config(
    # 15 divides no distance between stories: with 16 each begins at an even place of its window in the first epoch
    model=ModelConfig(block_size=15, n_layer=1, n_head=2, n_embd=8, position="learned", qk_norm=False),
    optim=OptimConfig(kind="adamw", lr=0.01),
    schedule=ScheduleConfig(warmup_steps=10),
    train=TrainConfig(steps=300, batch_size=16, seed=45),
)

WORDS, LOGITS = ["sang", "sat", "hid", "ran", "slept"], [2.0, 1.5, 0.5, -0.5, -1.0]
"""of the chapter about sampling, made up"""


def shown(token: bytes | str) -> str:
    """A token with its spaces made visible."""
    text = token if isinstance(token, str) else token.decode("utf-8", errors="replace")
    return text.replace(" ", "␣")


def tokens_of(tokenizer: BPETokenizer, ids: Iterable[int]) -> list[str]:
    """The visible text of each id."""
    return [shown(tokenizer.token_bytes(id)) for id in ids]


# ---------------------------------------------------------------- text to ids


def world(tokenizer: BPETokenizer) -> dict[str, Any]:
    """The tiny grammar's stories with their probabilities, and what it needs for one on average."""
    parser = Parser(read_grammar(GRAMMAR), "story")
    acts = [(who, did, sound) for who, sound in (("bird", "sang"), ("cat", "slept")) for did in ("sat", "ran")]
    texts = [f"the {who} {did}. it {sound}." for who, did, sound in acts]
    nats = {text: -parser.derivations(text)[0][0] for text in texts}
    rows = [(text, math.exp(-cost), cost / math.log(2)) for text, cost in nats.items()]
    return {
        "grammar": GRAMMAR,
        "rows": rows,
        "nats": nats,
        "bits": sum(p * bits for _, p, bits in rows),
        "tokens": sum(p * (len(tokenizer.encode(text)) + 1) for text, p, _ in rows),
    }


def learned() -> dict[str, Any]:
    """The vocabulary of `TEXTS`, merge by merge, each checked against counting anew."""
    counts = count_pieces(TEXTS)
    final = BPETokenizer.train_from_counts(counts)
    steps, states = [], []
    for done, merge in enumerate(final.merges):
        so_far = BPETokenizer.train_from_counts(counts, 256 + 5 + done)
        state = {piece: so_far.encode(piece) for piece in counts}
        pairs = _pairs(so_far, counts)
        ranked = sorted(pairs, key=lambda pair: (-pairs[pair], pair))
        assert ranked[0] == merge, "the trainer and the counting agree"
        named = [(tokens_of(so_far, pair), pair, pairs[pair]) for pair in ranked]
        states.append([(shown(piece), counts[piece], tokens_of(so_far, ids)) for piece, ids in state.items()])
        best = [row for row in named if row[2] == pairs[merge]]
        steps.append({"pairs": named, "best": best, "id": 256 + done, "token": shown(final.token_bytes(256 + done))})
    assert max(_pairs(final, counts).values()) == 1, "every repeated pair is merged"
    return {"pieces": counts.most_common(), "steps": steps, "states": states, "tokenizer": final}


def _pairs(tokenizer: BPETokenizer, counts: Counter[str]) -> Counter[tuple[int, int]]:
    """How often each pair of ids stands side by side."""
    pairs: Counter[tuple[int, int]] = Counter()
    for piece, count in counts.items():
        for pair in pairwise(tokenizer.encode(piece)):
            pairs[pair] += count
    return pairs


def encoded(tokenizer: BPETokenizer, text: str) -> dict[str, Any]:
    """A text with its pieces, ids and tokens."""
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    return {"text": text, "pieces": list(map(shown, GPT2.split(text))), "ids": ids, "tokens": tokens_of(tokenizer, ids)}


def drawn(tokenizer: BPETokenizer) -> Split:
    """`DRAWN` stories of the tiny world as a training split in memory."""
    sampler, source = Sampler(read_grammar(GRAMMAR), "story"), random.Random("how it works")
    texts = [sampler.sample(source)[0] for _ in range(DRAWN)]
    documents = [[*tokenizer.encode(text), tokenizer.end_of_text] for text in texts]
    return Split(
        name="train",
        tokens=np.array([id for document in documents for id in document], token_dtype(tokenizer.vocab_size)),
        mask=None,
        offsets=np.cumsum([0, *map(len, documents)]).astype("<u8"),
        characters=sum(map(len, texts)),
        bytes=sum(len(text.encode()) for text in texts),
        end_of_text=tokenizer.end_of_text,
        vocab_size=tokenizer.vocab_size,
    )


def times_told(split: Split, tokenizer: BPETokenizer) -> Counter[str]:
    """How often each story stands in the split."""
    return Counter(tokenizer.decode(split.tokens[a : b - 1].tolist()) for a, b in pairwise(split.offsets.tolist()))


def shard_of(split: Split, fingerprint: str) -> dict[str, Any]:
    """What a shard of the split is on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.bin"
        with ShardWriter(path, split.tokens.dtype, split.vocab_size, fingerprint) as writer:
            writer.write(split.tokens.tolist())
        data = path.read_bytes()
    return {
        "header": HEADER_BYTES,
        "tokens": len(split.tokens),
        "value": split.tokens.dtype.itemsize,
        "bytes": len(data),
        "first": data[HEADER_BYTES : HEADER_BYTES + 8].hex(" ", split.tokens.dtype.itemsize),
        "first_ids": split.tokens[:4].tolist(),
    }


def windows_of(split: Split, tokenizer: BPETokenizer, batches: Batches) -> dict[str, Any]:
    """The first windows of the split, and the order of the first epochs."""
    T = batches.block_size
    pieces = [tokens_of(tokenizer, split.tokens[start : start + T + 1].tolist()) for start in (0, T)]
    rows = [{"inputs": tokens[:-1], "labels": tokens[1:]} for tokens in pieces]
    x, y = batches.batch(0, CONFIG.train.batch_size)
    assert (x[:, 1:] == y[:, :-1]).all()
    orders = [batches.order(epoch)[:8].tolist() for epoch in (0, 1)]
    return {"rows": rows, "count": batches.windows, "orders": orders, "offset": batches.offset(1)}


# ---------------------------------------------------------------- the tiny model


def trained(
    split: Split, config: Config, ids: list[int], jitter: float = 0.0, kind: type[Batches] = Batches
) -> tuple[Transformer, list[dict[str, float]]]:
    """The tiny model after its training, with some steps of it; `last_word` is its probability of what the bird did."""
    source = Windows(kind(split, config.model.block_size, config.train.seed))
    torch.manual_seed(config.train.seed)
    model = Transformer(replace(config.model, vocab_size=split.vocab_size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + jitter * torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    state = State.new(NextToken(model), config.optim)
    budget = Budget(config, state.position, clock=lambda: 0.0)
    beginning, following = ids[:6], ids[6]
    steps = []
    for row in Loop(state, source, config, budget):
        if row.step in (1, 10, 20, 40, 80, 120, 160, 300):
            with torch.no_grad():
                share = model(torch.tensor([beginning]))[0, -1].softmax(dim=-1)[following].item()
            lr = config.optim.lr * row.lr_scale
            steps.append({"step": row.step, "loss": row.loss, "lr": lr, "last_word": share})
    return model, steps


class Unmoved(Batches):
    """Windows that every epoch cuts at the same places."""

    offset = staticmethod(lambda epoch: 0)


def trapped(split: Split, ids: list[int], kind: type[Batches]) -> float:
    """The loss on a story of a model that learned from windows of 16."""
    model, _ = trained(split, replace(CONFIG, model=replace(CONFIG.model, block_size=16)), ids, kind=kind)
    score = score_documents(model, [ids])[0]
    return score.nats / score.targets


@torch.no_grad()
def inside(model: Transformer, ids: list[int], place: int) -> dict[str, Any]:
    """What happens at position `place` of `ids` on its way through the only block; `manual_attention` does the sums."""
    block: Any = model.blocks[0]
    C, H, D = model.config.n_embd, model.config.n_head, model.config.head_size
    x = torch.tensor([ids])
    token, where = model.token_embedding(x), model.position_embedding.weight[: len(ids)]
    stream = token + where  # (1, T, C)
    normed = block.attention_norm(stream)
    q, k, v = (part.view(1, -1, H, D).transpose(1, 2) for part in block.attention.qkv_proj(normed).split(C, dim=-1))
    mixed, weights = manual_attention(q, k, v, None)  # (1, H, T, D), (1, H, T, T)
    np.testing.assert_allclose(weights.numpy(), attention_maps(model, ids)[0][None], atol=1e-5)
    added = block.attention.o_proj(mixed.transpose(1, 2).reshape(1, -1, C))
    between = stream + added
    up = block.mlp.up_proj(block.mlp_norm(between))
    mlp = block.mlp(block.mlp_norm(between))
    final = model.final_norm(between + mlp)
    logits = model.head(final)[0]  # (T, V)
    torch.testing.assert_close(logits, model(x)[0])
    scores = q @ k.transpose(-2, -1) / math.sqrt(D)
    at = {"token": token, "normed": normed, "added": added, "between": between, "mlp": mlp, "final": final}
    return {
        **{name: value[0, place].tolist() for name, value in at.items()},
        "position": where[place].tolist(),
        "stream": stream[0, place].tolist(),
        "rms": stream[0, place].square().mean().sqrt().item(),
        "gain": block.attention_norm.weight.tolist(),
        "after": (between + mlp)[0, place].tolist(),
        "q": q[0, :, place].tolist(),
        "k": k[0].tolist(),
        "v": v[0].tolist(),
        "scores": scores[0, :, place].tolist(),
        "exps": scores[0, :, place].exp().tolist(),
        "weights": weights[0].tolist(),
        "mixed": mixed[0, :, place].tolist(),
        "hidden": up.shape[-1],
        "alive": int((up[0, place] > 0).sum()),
        "logits": logits,
    }


def likeliest(logits: Tensor, tokenizer: BPETokenizer, label: int, count: int = 4) -> list[dict[str, Any]]:
    """The likeliest tokens with logit, probability and the gradient of the loss, found by automatic differentiation."""
    leaf = logits.clone().requires_grad_()
    F.cross_entropy(leaf[None], torch.tensor([label])).backward()
    shares = logits.softmax(dim=-1)
    return [
        {"token": shown(tokenizer.token_bytes(id)), "logit": logits[id].item(), "p": shares[id].item(),
         "target": int(id == label), "gradient": leaf.grad[id].item()}  # type: ignore[index]
        for id in shares.topk(count).indices.tolist()
    ]  # fmt: skip


def scored(model: Transformer, tokenizer: BPETokenizer, nats: dict[str, float]) -> dict[str, Any]:
    """The tiny story token by token, what the model pays for each and what the source pays."""
    end = tokenizer.end_of_text
    ids = [end, *tokenizer.encode(STORY), end]
    x = torch.tensor([ids])
    with torch.no_grad():
        losses = token_losses(model, x[:, :-1], x[:, 1:])[0][0].tolist()
    known = {(end, *tokenizer.encode(text), end): math.exp(-cost) for text, cost in nats.items()}

    def mass(prefix: Sequence[int]) -> float:
        return sum(p for story, p in known.items() if story[: len(prefix)] == tuple(prefix))

    source = [math.log2(mass(ids[:n]) / mass(ids[: n + 1])) for n in range(1, len(ids))]
    total = sum(losses)
    assert abs(total - score_documents(model, [ids])[0].nats) < 1e-4
    tokens = [text if id != end else "end" for text, id in zip(tokens_of(tokenizer, ids[1:]), ids[1:], strict=True)]
    return {
        "rows": list(zip(tokens, (math.exp(-n) for n in losses), losses,
                         (n / math.log(2) for n in losses), source, strict=True)),
        "nats": total, "loss": total / len(losses), "perplexity": math.exp(total / len(losses)),
        "bits": total / math.log(2), "source": sum(source), "count": len(losses), "characters": len(STORY),
    }  # fmt: skip


def compared(model: Transformer, tokenizer: BPETokenizer, nats: dict[str, float]) -> dict[str, Any]:
    """Model and source on all stories, each as often as the grammar tells it."""
    times = {text: round(8 * math.exp(-cost)) for text, cost in nats.items()}
    documents = [tokenizer.encode(text) for text, count in times.items() for _ in range(count)]
    found = compare_with_source(model, tokenizer, None, documents, lambda text: nats[str(text)])
    rows = []
    for text in nats:
        one = compare_with_source(model, tokenizer, None, [tokenizer.encode(text)], lambda text: nats[str(text)])
        rows.append((text, *(one[f"{who}_bits_per_char"] * len(text) for who in ("source", "model"))))
    return {**found, "rows": rows, "times": times}


# ---------------------------------------------------------------- learning, choosing, remembering


def three_adamw_steps() -> list[tuple[float, ...]]:
    """Three weights that begin at 1, after each of four steps with gradients that are large, small and alternating."""
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.ones(3))
    optimizer = Optimizer(module, OptimConfig(kind="adamw", lr=0.01))  # type: ignore[arg-type]
    rows = [tuple(module.w.tolist())]
    for step in range(4):
        module.w.grad = torch.tensor([2.0, 0.002, (-1) ** step * 2.0])
        optimizer.step(1.0)
        rows.append(tuple(module.w.tolist()))
    return rows


def orthogonalised() -> dict[str, Any]:
    """A gradient before and after `newton_schulz`, with its singular values."""
    before = torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    after = newton_schulz(before[None])[0]
    return {name: {"rows": matrix.tolist(), "values": torch.linalg.svdvals(matrix).tolist()}
            for name, matrix in (("before", before), ("after", after))}  # fmt: skip


def chosen() -> dict[str, Any]:
    """What each way of sampling does to five logits."""
    logits = torch.tensor([LOGITS])

    def shares(repetition_penalty: float = 1.0, **how: Any) -> list[float]:
        seen = torch.tensor([[word == "sang" for word in WORDS]])
        penalised = samplers.repetition_penalty(logits, seen, repetition_penalty)
        return samplers.filtered(penalised, samplers.Sampling(**how))[0].softmax(dim=-1).tolist()

    one = shares(temperature=1.0)
    k, p, least, penalty, uniform = 4, 0.8, 0.1, 1.5, 0.7
    rows = [
        ("temperature 1", one),
        ("temperature 0.5", shares(temperature=0.5)),
        ("temperature 2", shares(temperature=2.0)),
        (f"top-k {k}", shares(temperature=1.0, top_k=k)),
        (f"top-p {p}", shares(temperature=1.0, top_p=p)),
        (f"min-p {least}", shares(temperature=1.0, min_p=least)),
        (f"repetition penalty {penalty} on `sang`", shares(temperature=1.0, repetition_penalty=penalty)),
        (f"temperature 2, then top-p {p}", shares(temperature=2.0, top_p=p)),
    ]
    pick = int(samplers.pick(logits, torch.tensor([uniform], dtype=torch.float64))[0])
    return {"words": WORDS, "logits": LOGITS, "rows": rows, "k": k, "p": p, "min_p": least, "uniform": uniform,
            "pick": WORDS[pick], "cumulative": np.cumsum(one).tolist()}  # fmt: skip


@torch.no_grad()
def remembered(model: Transformer, ids: list[int]) -> dict[str, Any]:
    """One text read at once and token by token; the answers agree."""
    cache = StaticCache(1, model.config.block_size)
    pieces = []
    for id in ids:
        pieces.append(model(torch.tensor([[id]]), cache=cache.part()))
        cache.extend([[id]])
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(torch.tensor([ids])), atol=1e-4, rtol=1e-4)
    return {"T": len(ids), "without": sum(range(1, len(ids) + 1)), "bytes": cache.n_bytes, "room": cache.capacity}


def chatted(tokenizer: BPETokenizer) -> dict[str, Any]:
    """A dialogue as text and as ids, with what is learned of it, and a message that tries to forge an end."""
    template = ChatTemplate.default()
    messages = [{"role": "user", "content": "the bird?"}, {"role": "assistant", "content": "it sang."}]
    ids, mask = template.encode(messages, tokenizer)
    forged = "<|end|>"
    return {
        "text": template.render(messages),
        "rows": list(zip(ids, tokens_of(tokenizer, ids), mask, strict=True)),
        "forged": tokens_of(tokenizer, tokenizer.encode(forged)),
        "end": tokenizer.special_ids["<|end|>"],
    }


def turned() -> dict[str, Any]:
    """Scores of a query and a key that RoPE has turned: equal distances, equal scores."""
    cos, sin = rope_tables(16, 4, ModelConfig().rope_theta)
    q, k = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])

    def score(query: int, key: int) -> float:
        return float(apply_rope(q.view(1, 1, 1, 4), cos[query : query + 1], sin[query : query + 1]).flatten()
                     @ apply_rope(k.view(1, 1, 1, 4), cos[key : key + 1], sin[key : key + 1]).flatten())  # fmt: skip

    return {"q": q.tolist(), "rows": [(a, b, score(a, b)) for a, b in ((3, 3), (3, 1), (9, 7), (9, 1))]}
