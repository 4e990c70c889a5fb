"""The whole of Linnet in one file: a text becomes tokens, the tokens teach a small transformer, and it writes.

    python docs/linnet_in_one_file.py some.txt     # without some.txt it learns a text that it makes up

If you have never read a language model, begin here and read downwards. The parts stand in the order in which the data
flows: a text becomes ids, ids become windows, windows become predictions, wrong predictions become a step of the
weights, and after some hundred steps the model writes by itself.

Nothing is imported from `linnet`, which does the same with more speed and more choices, and measures on text that was
held out. The two are written apart so that each can check the other: tests/test_one_file.py asks both for the same
merges, the same batches, the same first weights, the same loss at every step and the same text.

Shapes: B windows in a batch, T positions in a window, C numbers that stand for one token, H heads, D = C / H numbers
in a head, V ids in the vocabulary.
"""

import functools
import math
import random
import sys
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import regex
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Settings:
    """Everything that is chosen by hand. The kind of model is that of the recipe `synapse`, only smaller."""

    vocab_size: int = 512  # how many different tokens there may be
    block_size: int = 64  # T: how far back the model can look
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 64  # C
    steps: int = 500
    batch_size: int = 16  # B: windows that one step learns from
    lr: float = 3e-3  # about as far as a step moves each weight
    warmup_steps: int = 50
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 1


# --- 1. A text becomes ids ------------------------------------------------------------------------------------------
# GPT-2's way of cutting text into words, numbers, signs and white space. A token never reaches across such a cut;
# without them the vocabulary would fill up with "dog." and "dog," and "dog!".
PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
SPECIALS = 5  # ids after the last merge: the end of a text, and four marks that chats need and this file does not
Pair = tuple[int, int]


def merged(ids: list[int], pair: Pair, new: int) -> list[int]:
    """`ids` with `new` in place of each `pair`, from left to right."""
    out: list[int] = []
    for id in ids:
        out.append(id)
        if tuple(out[-2:]) == pair:
            out[-2:] = [new]
    return out


def learn_merges(text: str, wanted: int) -> list[Pair]:
    """The pairs of ids to merge, in order: byte-level BPE (arXiv:1508.07909, section 3.2).

    At first each byte is a token. Then, again and again, the two neighbours that stand together most often become one
    new token. So frequent words end up as a single id, and rare ones are still spelled from their parts.
    """
    pieces = Counter(PIECES.findall(text))
    words, times = [list(piece.encode()) for piece in pieces], list(pieces.values())
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)  # in which words a pair stands, or stood once

    def count(word: int, sign: int) -> None:
        for pair in pairwise(words[word]):
            counts[pair] += sign * times[word]
            places[pair].add(word)

    for word in range(len(words)):
        count(word, +1)
    merges: list[Pair] = []
    while len(merges) < wanted:
        # of equally frequent pairs the one with the smallest ids, so that a text always gives the same vocabulary
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=(0, 0))
        if counts[best] < 2:
            break  # what stands there only once is of no use elsewhere
        merges.append(best)
        for word in places.pop(best):  # only in these words does anything change
            count(word, -1)
            words[word] = merged(words[word], best, 255 + len(merges))
            count(word, +1)
    return merges


class Tokenizer:
    """Text to ids and back. The ids 0-255 are the bytes, then come the merges, then the special tokens."""

    def __init__(self, merges: list[Pair]) -> None:
        self.id_of = {pair: 256 + rank for rank, pair in enumerate(merges)}
        self.bytes_of = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            self.bytes_of.append(self.bytes_of[left] + self.bytes_of[right])
        self.end_of_text = len(self.bytes_of)
        self.vocab_size = self.end_of_text + SPECIALS
        self.known: dict[str, list[int]] = {}  # words come back all the time, and are worked out only once

    def encode(self, text: str) -> list[int]:
        """The ids of `text`. Every text has some, because every byte is a token."""
        return [id for piece in PIECES.findall(text) for id in self.ids_of(piece)]

    def ids_of(self, piece: str) -> list[int]:
        """The bytes of one piece after all merges: what was learned first is merged first."""
        if piece not in self.known:
            ids = list(piece.encode())
            while len(ids) > 1:
                pair = min(pairwise(ids), key=lambda pair: self.id_of.get(pair, math.inf))
                if pair not in self.id_of:
                    break
                ids = merged(ids, pair, self.id_of[pair])
            self.known[piece] = ids
        return self.known[piece]

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`. A model may stop in the middle of a character; U+FFFD then stands for it."""
        return b"".join(self.bytes_of[id] for id in ids).decode("utf-8", errors="replace")


# --- 2. Ids become windows ------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=2)
def starts_of(windows: int, T: int, seed: int, epoch: int) -> np.ndarray:
    """Where each window begins in one reading of the text (an epoch): every window once, in random order.

    From the second reading on, all begin a little later: windows that never changed would be learned by heart sooner.
    """
    draws = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(windows + 1)  # alike in every NumPy
    return np.argsort(draws[:-1], kind="stable") * T + (int(draws[-1] % T) if epoch else 0)


def batch(ids: np.ndarray, first_sample: int, settings: Settings) -> tuple[Tensor, Tensor]:
    """What one step learns from: ids (B, T), and as labels (B, T) the id that follows each of them in the text."""
    T, samples = settings.block_size, range(first_sample, first_sample + settings.batch_size)
    windows = (len(ids) - 1) // T  # one id is kept back, because the last position of the last window needs a label
    starts = [starts_of(windows, T, settings.seed, sample // windows)[sample % windows] for sample in samples]
    positions = np.array(starts)[:, None] + np.arange(T + 1)  # (B, T + 1)
    tokens = torch.from_numpy(ids[positions % len(ids)])  # after the end of the text comes its beginning
    return tokens[:, :-1], tokens[:, 1:]


# --- 3. Windows become predictions ----------------------------------------------------------------------------------
class Attention(nn.Module):
    """Each position gathers what it needs from itself and the positions before it (arXiv:1706.03762)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.n_head = settings.n_head
        self.qkv_proj = nn.Linear(settings.n_embd, 3 * settings.n_embd, bias=False)
        self.o_proj = nn.Linear(settings.n_embd, settings.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        # a query says what a position looks for, a key what it has to offer, a value what it then hands over
        parts = self.qkv_proj(x).view(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (B, H, T, D): every head can look for something else
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, T): how well each key answers each query
        future = torch.ones(T, T, dtype=torch.bool).triu(1)  # what comes later is hidden, as it is to be predicted
        weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)  # each row adds up to one
        return self.o_proj((weights @ v).transpose(1, 2).reshape(B, T, C))  # the heads side by side again


class Block(nn.Module):
    """Attention, then an MLP, with which each position thinks by itself about what it has gathered."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        C = settings.n_embd
        self.attention_norm, self.attention, self.mlp_norm = nn.LayerNorm(C), Attention(settings), nn.LayerNorm(C)
        # without the bend of the ReLU between them the two matrices would do no more than one
        layers = {"up_proj": nn.Linear(C, 4 * C), "relu": nn.ReLU(), "down_proj": nn.Linear(4 * C, C)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        # (B, T, C); both add to the stream and replace nothing in it, so that a stack of many blocks can be trained
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """Ids to logits: for each position, how much speaks for each id as the next one."""

    def __init__(self, settings: Settings, vocab_size: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, settings.n_embd)
        self.position_embedding = nn.Embedding(settings.block_size, settings.n_embd)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.n_layer))
        self.final_norm = nn.LayerNorm(settings.n_embd)
        self.lm_head = nn.Linear(settings.n_embd, vocab_size)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:  # the gains of the norms have one dimension, and stay at 1
                # each block adds to the stream twice, and all of them together must not make it large (GPT-2, 2.3)
                adds = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * settings.n_layer) if adds else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, V) logits."""
        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.final_norm(x))


# --- 4. Predictions become a loss, and the loss a step --------------------------------------------------------------
def lr_scale(step: int, settings: Settings) -> float:
    """The share of `lr` for a step: up in a line while all is new, then down along half a cosine, to settle."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def train(model: Transformer, ids: np.ndarray, settings: Settings) -> Iterator[tuple[int, float]]:
    """Trains `model`; gives each step's number and the loss of its batch before the weights moved."""
    # decay keeps matrices small; gains and biases are few, and a rare word must not fade from embeddings and head
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        (decayed if name.startswith("blocks.") and parameter.dim() == 2 else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    # AdamW moves each weight against its gradients, and by about `lr` however large they are (arXiv:1711.05101)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * lr_scale(step, settings)
        x, y = batch(ids, step * settings.batch_size, settings)
        # the mean of -ln p(label): 0 for a model that is sure and right, ln V for one that only guesses
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())  # logits (B·T, V), labels (B·T,)
        optimizer.zero_grad()
        loss.backward()  # the gradient of each weight: how the loss would change with it
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)  # one odd batch must not undo what many have taught
        optimizer.step()
        yield step + 1, loss.item()


# --- 5. The model writes --------------------------------------------------------------------------------------------
@torch.no_grad()
def write(model: Transformer, tokenizer: Tokenizer, prompt: str, length: int, T: int, temperature: float = 0.8) -> str:
    """What the model writes after `prompt`: it predicts a token, reads it as well, and predicts the next.

    At temperature 0 it takes the likeliest token, at 1 it draws as it believes; in between it is careful.
    """
    ids = [tokenizer.end_of_text, *tokenizer.encode(prompt)]
    begin, half = len(ids), T - T // 2
    while len(ids) < begin + length:
        window = ids[-(-max(len(ids) - T, 0) // half) * half :]  # a window that is full loses its older half
        logits = model(torch.tensor([window]))[0, -1]  # (V,), for what comes after the last position
        if len(ids) == 1:
            logits[tokenizer.end_of_text :] = -math.inf  # a text without a word cannot end yet
        drawn = logits.argmax() if temperature == 0 else torch.multinomial((logits / temperature).softmax(dim=-1), 1)
        if drawn >= tokenizer.end_of_text:
            break
        ids.append(int(drawn))
    return tokenizer.decode(ids[begin:])


def main(paths: list[str]) -> None:
    """Learns a text, then shows what the model writes."""
    torch.set_num_threads(1)  # where other programs work too, threads that wait for each other are far slower than one
    settings, began = Settings(), time.monotonic()
    if not paths:
        print("No file was named, so the model learns a text that is made up; name a .txt file to have yours learned.")
        people, things = ("Ada", "Ben", "Cleo", "Dan"), ("a red ball", "an old book", "a paper bird", "a small drum")
        rng = random.Random(0)
        text = " ".join("{} gave {} {}.".format(*rng.sample(people, 2), rng.choice(things)) for _ in range(4000))
    else:
        try:
            text = Path(paths[0]).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            sys.exit(f"{paths[0]} cannot be read as text in UTF-8 ({error}); name a .txt file")
    tokenizer = Tokenizer(learn_merges(text, settings.vocab_size - 256 - SPECIALS))
    ids, V = np.array([*tokenizer.encode(text), tokenizer.end_of_text]), tokenizer.vocab_size
    if len(ids) <= settings.block_size:
        sys.exit(f"The text has {len(ids)} tokens, and one window needs {settings.block_size + 1}; take a longer one.")
    print(f"The text has {len(ids):,} tokens of {V} kinds; guessing among them has a loss of {math.log(V):.2f}.")
    torch.manual_seed(settings.seed)
    model = Transformer(settings, V)
    for step, loss in train(model, ids, settings):
        if step == 1 or step % 50 == 0:
            print(f"step {step:3} of {settings.steps}   loss {loss:.2f}   {time.monotonic() - began:.0f} s", flush=True)
    print(write(model, tokenizer, "", 200, settings.block_size))


if __name__ == "__main__":
    main(sys.argv[1:])
