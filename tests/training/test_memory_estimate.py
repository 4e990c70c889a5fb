"""What preflight says of memory, beside what a training step takes in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from linnet.model.config import ModelConfig
from linnet.model.costs import training_bytes

SHAPES = {
    "linnet-tiny": (ModelConfig(vocab_size=1_300, n_layer=2, n_head=4, n_embd=128, mlp_hidden=256, block_size=192), 12),
    "linnet-small": (ModelConfig(vocab_size=4_096, n_layer=4, n_head=6, n_embd=192, block_size=128), 12),
    "linnet-small, many windows": (ModelConfig(vocab_size=4_096, n_layer=4, n_head=6, n_embd=192, block_size=128), 64),
    "characters": (ModelConfig(vocab_size=70, n_layer=6, n_head=6, n_embd=192, block_size=256), 8),
    "GPT-2's vocabulary": (ModelConfig(vocab_size=50_257, n_layer=6, n_head=6, n_embd=384, block_size=128), 32),
    "one window": (ModelConfig(vocab_size=50_257, n_layer=4, n_head=6, n_embd=192, block_size=256), 1),
    "learned positions, dropout": (
        ModelConfig(vocab_size=8_192, n_head=6, n_embd=192, block_size=256, dropout=0.1, position="learned"),
        8,
    ),
}
STEPS = """
import sys, torch
from linnet import runtime
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.training.recipe import OptimConfig
from linnet.training.next_token import next_token_loss
from linnet.training.optim import Optimizer, clip_gradients

def steps(config, windows, count):
    model = Transformer(config)
    optimizer = Optimizer(model, OptimConfig())
    x, y = torch.randint(0, config.vocab_size, (2, windows, config.block_size))
    for number in range(count):
        if number == count - 1:  # a checkpoint is written meanwhile
            kept = [p.detach().clone() for p in (*model.parameters(), *optimizer.state_dict().values())]
        optimizer.zero_grad()
        (next_token_loss(model, x, y) / y.numel()).backward()
        clip_gradients(list(optimizer.parameters.values()), 1.0)
        optimizer.step(1.0)

steps(ModelConfig(vocab_size=600, n_layer=1, n_head=1, n_embd=8, block_size=8), 100, 1)  # what libraries take once
before = runtime.peak_resident_bytes()
steps({config}, {windows}, 3)
print(runtime.peak_resident_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_is_near_the_peak(name: str) -> None:
    config, windows = SHAPES[name]
    program = STEPS.replace("{config}", repr(config)).replace("{windows}", str(windows))
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    ratio = training_bytes(config, windows) / int(done.stdout)
    print(f"{name}: {ratio:.2f}")
    assert 0.85 < ratio < 1.3
