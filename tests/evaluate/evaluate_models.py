"""Tiny models with random weights, and splits made in memory."""

import numpy as np
import torch

from linnet.data.shards import Split
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer

torch.set_num_threads(1)
END = 31


def random_model(**changes: object) -> Transformer:
    """A model of 2 layers and 32 ids whose predictions differ strongly from token to token."""
    shape = {"vocab_size": 32, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Transformer(ModelConfig(**shape))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.5) if parameter.dim() > 1 else parameter.uniform_(0.5, 1.5)
    return model.eval()


def split_of(tokens: list[int], mask: list[int] | None = None) -> Split:
    """One document of `tokens`, four bytes and two characters for each."""
    return Split(
        name="val",
        tokens=np.array(tokens, np.uint16),
        mask=None if mask is None else np.array(mask, np.uint8),
        offsets=np.array([0, len(tokens)], np.uint64),
        characters=2 * len(tokens),
        bytes=4 * len(tokens),
        end_of_text=END,
        vocab_size=32,
    )
