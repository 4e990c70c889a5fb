"""A vocabulary small enough to train in a moment."""

import pytest
from tokenizer_texts import CORPUS

from linnet.tokenizers import BPETokenizer


@pytest.fixture(scope="session")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(CORPUS * 2, vocab_size=500)
