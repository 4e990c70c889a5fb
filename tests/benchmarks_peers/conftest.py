"""The scripts that compare Linnet with nanoGPT, and a checkout to compare it with."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

STAND_IN = '''
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class GPTConfig:
    block_size: int = 8
    vocab_size: int = 65
    n_layer: int = 1
    n_head: int = 1
    n_embd: int = 8
    dropout: float = 0.0
    bias: bool = False


class GPT(nn.Module):
    """Knows which token follows which: a table of bigrams behind nanoGPT's interface."""

    def __init__(self, config):
        super().__init__()
        print("number of parameters: few")  # nanoGPT prints too
        self.table = nn.Embedding(config.vocab_size, config.vocab_size)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay)

    def forward(self, idx, targets=None):
        logits = self.table(idx)
        if targets is None:
            return logits[:, [-1]], None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
'''


@pytest.fixture(scope="session")
def scripts() -> Iterator[None]:
    """The folder of benchmarks on the path, as it is for a script that is run from there."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="session")
def nanogpt(scripts: None) -> ModuleType:
    return importlib.import_module("nanogpt")


@pytest.fixture(scope="session")
def time_to_loss(scripts: None) -> ModuleType:
    return importlib.import_module("time_to_loss")


@pytest.fixture(scope="session")
def rounds(scripts: None) -> ModuleType:
    return importlib.import_module("rounds")


@pytest.fixture(scope="session")
def throughput(scripts: None) -> ModuleType:
    return importlib.import_module("throughput")


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a nanoGPT checkout; its model is a table of bigrams."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "model.py").write_text(STAND_IN, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def checkout() -> Path:
    """A real nanoGPT checkout, where the environment names one."""
    path = os.environ.get("NANOGPT_CHECKOUT")
    if path is None:
        pytest.skip("NANOGPT_CHECKOUT names no nanoGPT checkout")
    return Path(path)


@pytest.fixture(scope="session")
def verse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 12,000 characters that a table of bigrams can learn something of."""
    file = tmp_path_factory.mktemp("text") / "verse.txt"
    file.write_text("".join(f"line {n} of the verse, {n * n}\n" for n in range(500))[:12_000], encoding="utf-8")
    return file
