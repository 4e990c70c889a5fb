"""What is found of written texts in a training text, against counts made by hand, and within its time."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from linnet.data import DataConfig, Prepared, Split, prepare
from linnet.tokenizers import Tokenizer
from linnet.training import copies
from linnet.training.copies import Copies, find_copies, long_sentences
from linnet.training.sample import TEXTS, Sampler

WORDS = [f"w{n}" for n in range(1000)]
"""a text in which every run of words stands once"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("copies")
    ends = [f"{word}." if n % 10 == 9 else word for n, word in enumerate(WORDS)]  # sentences of ten words
    (folder / "words.txt").write_text(" ".join(ends), encoding="utf-8")
    prepare(DataConfig(sources=(str(folder / "words.txt"),), vocab_size=300, val_fraction=0.2), folder / "data")
    return Prepared.open(folder / "data")


@pytest.fixture
def train(prepared: Prepared) -> Split:
    return prepared.split("train")


@pytest.fixture
def tokenizer(prepared: Prepared) -> Tokenizer:
    return prepared.tokenizer()


def writer(tokenizer: Tokenizer, *texts: str) -> Any:
    """A model that writes these texts, one for each seed, word by word."""

    def stream(_prompt: str, seed: int, **_options: object) -> list[str]:
        words = (texts[seed] if seed < len(texts) else "").split(" ")
        return [word if n == 0 else f" {word}" for n, word in enumerate(words)]

    return SimpleNamespace(tokenizer=tokenizer, stream=stream)


@pytest.mark.parametrize("most", [500_000, 600], ids=["all", "part"])
def test_copies_are_found_where_they_stand(
    train: Split, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(copies, "COMPARED_TOKENS", most)
    words = tokenizer.decode(train.tokens.tolist()[:-1]).split()
    lm = writer(tokenizer, " ".join(words[1:9]), " ".join([*words[1:6], "unheard", *words[6:9]]), "unheard of", "")
    part = min(1.0, most / len(train.tokens))
    where = "" if part == 1 else f"{part:.0%} of "
    found = Sampler("", 8).copies(lm, train)
    assert found == Copies(3, 9, 1, 8, 5, 0, 0, pytest.approx(part))
    assert found.sentence_share is None
    assert Sampler("", 8).copying(lm, train) == (
        f"copying: of 3 texts that it writes, the longest of 9 words, 1 stands word for word in {where}the training "
        "text; the longest run of words found there is 8, the usual one 5"
    )
    assert Sampler("", 8).copies(writer(tokenizer, "", " "), train) is None
    assert Sampler("", 8).copying(writer(tokenizer, "", " "), train) is None


def test_sentences_of_more_than_eight_words_are_counted_by_themselves(train: Split, tokenizer: Tokenizer) -> None:
    sentences = [" ".join(WORDS[n : n + 10]) + "." for n in (0, 10, 20)]
    text = f"{sentences[0]} Oh. {sentences[1]} unheard {sentences[2]} {' '.join(WORDS[30:39])}"
    assert [len(sentence.split()) for sentence in long_sentences(text)] == [10, 10, 11]
    found = find_copies([text], tokenizer, train)
    assert found is not None
    assert (found.whole, found.longest, found.sentences, found.copied_sentences) == (0, 19, 3, 2)
    assert found.sentence_share == pytest.approx(2 / 3)
    assert found.line("answer").startswith("copying: of 1 answer that it writes, the longest of 41 words, none stands")
    assert found.line(meant=True).startswith("by heart, as tuning is meant to teach: of 1 text that it writes, the")
    assert found.line().endswith("; of 3 sentences of more than 8 words, 2 are copied")


def test_a_sentence_ends_with_its_mark_and_what_closes_it() -> None:
    nine = "one two three four five six seven eight nine"
    assert long_sentences(f'"{nine}!" {nine}? {nine[:-5]}. {nine}') == [f'"{nine}!"', f"{nine}?"]
    assert long_sentences(f"{nine}...\n{nine}.") == [f"{nine}...", f"{nine}."]


def test_a_run_across_two_passages_is_found_and_every_token_is_counted_once(
    train: Split, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PASSAGE_TOKENS", 300)
    monkeypatch.setattr(copies, "OVERLAP_TOKENS", 200)
    read = list(copies.passages(tokenizer, train))
    assert len(read) > 5
    assert sum(tokens for _, tokens in read) == len(train.tokens)
    words = tokenizer.decode(train.tokens.tolist()[:-1]).split()
    texts = [" ".join(words[n : n + 20]) for n in range(0, 600, 7)]
    found = find_copies(texts, tokenizer, train)
    assert found is not None
    assert (found.whole, found.longest, found.part) == (len(texts), 20, 1.0)


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much at every look."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += seconds
        return now

    return clock


def test_looking_for_copies_ends_in_its_time(
    train: Split, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PASSAGE_TOKENS", len(train.tokens) // 10)
    ten = " ".join(WORDS[:10])
    lm = writer(tokenizer, *[ten] * TEXTS)
    sampler = Sampler("", 8)
    whole = sampler.copies(lm, train, 1000, ticking(1))
    assert whole is not None
    assert (whole.texts, whole.part) == (TEXTS, 1.0)
    some = sampler.copies(
        lm, train, 60, ticking(1)
    )  # 11 looks at the clock for a text: two of them, and half of a third
    assert some is not None
    assert some.texts == 2
    assert some.part == 1.0
    hurried = sampler.copies(lm, train, 26, ticking(1))
    assert hurried is not None
    assert hurried.texts == 1
    slow = find_copies([ten], tokenizer, train, lambda: False)
    assert slow is not None
    assert slow.part == pytest.approx(0.1, abs=0.01)
    assert "in 10% of the training text" in slow.line()
    assert sampler.copies(lm, train, 10, ticking(1)) is None  # not one text was whole
