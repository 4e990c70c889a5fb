"""Speed of each part of the pipeline on this machine: `python benchmarks/pipeline.py [TEXT] [--write]`.

Medians of five runs with their range; `--write` keeps them under benchmarks/results/ with machine and date.
"""

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from linnet import corpus, runtime
from linnet.lm import LM
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer

RUNS = 5


def timed(work: Callable[[], float]) -> dict[str, float]:
    """Amount of work per second over five runs: median, least, most."""
    rates = []
    for _ in range(RUNS):
        started = time.perf_counter()
        amount = work()
        rates.append(amount / (time.perf_counter() - started))
    return {"median": statistics.median(rates), "least": min(rates), "most": max(rates)}


def measure(text: str) -> dict[str, dict[str, float]]:
    """All figures; the keys name their units."""
    n_bytes = len(text.encode())
    tokenizer = BPETokenizer.train([text], vocab_size=4096)

    def encode_fresh() -> float:
        fresh = BPETokenizer.from_document(tokenizer.document())
        fresh.encode(text)
        return n_bytes / 1e6

    def tell() -> float:
        return sum(len(story.text) for story in itertools.islice(corpus.stories(1), 2000)) / 1e6

    stories = [story.text for story in itertools.islice(corpus.stories(2), 300)]

    def parse() -> float:
        return float(sum(bool(corpus.parse_story(story)) for story in stories))

    torch.set_num_threads(1)
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, n_layer=4, n_embd=128, block_size=256)).eval()
    lm = LM(model, tokenizer)

    def generate() -> float:
        lm.generate("Once", temperature=0, max_new_tokens=250)
        return 250.0

    def train_tokenizer() -> float:
        BPETokenizer.train([text], vocab_size=4096)
        return n_bytes / 1e6

    work = {
        "learn 4,096 ids, MB/s": train_tokenizer,
        "encode, fresh cache, MB/s": encode_fresh,
        "tell stories, MB/s": tell,
        "parse stories, stories/s": parse,
        "generate, 4 layers x 128, 1 thread, at most 250 tokens, tokens/s": generate,
    }
    return {name: timed(action) for name, action in work.items()}


def main() -> None:
    """Measures, prints, and with --write keeps the figures."""
    paths = [word for word in sys.argv[1:] if not word.startswith("--")]
    if paths:
        name, text = Path(paths[0]).name, Path(paths[0]).read_text(encoding="utf-8")
    else:
        name = "12,000 built-in stories"
        text = "\n".join(story.text for story in itertools.islice(corpus.stories(0), 12_000))
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": runtime.machine(),
        "versions": runtime.versions(),
        "text": f"{name}, {len(text.encode()):,} bytes",
        "runs": RUNS,
        "figures": measure(text),
    }
    page = json.dumps(found, indent=2)
    print(page)
    if "--write" in sys.argv:
        (Path(__file__).parent / "results" / "pipeline.json").write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
