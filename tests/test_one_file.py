"""docs/linnet_in_one_file.py and the package, written apart, say the same at every stop from a text to a text."""

import importlib.util
import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import linnet
from linnet.data.batches import Batches
from linnet.data.shards import Split

FILE = Path(__file__).parents[1] / "docs" / "linnet_in_one_file.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("linnet_in_one_file", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


one = loaded()

NAUGHTY = [
    "a",
    "aaaa aaa aa aaaaaaaaaaaa " + "ab" * 40 + " " * 30 + "!" * 31,
    "Hello hello HELLO, they'll say they've seen 1000 dogs & 2000 cats!!!   \n\n  It's 'twas 'S not 're",
    "naïve café e\u0301 Å ﬁ ½ ² Ⅷ ١٢٣ हिन्दी में நமஸ்தே العَرَبِيَّةُ 日本語、한국어 ไทย 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽!!",
    "<|endoftext|><|user|> <|end|>text<|assistant|>\n<|endoftext|>\n<|endof",
    "\x00\x01 NUL \x1c\x85\xa0 controls\u2028\u3000spaces\u200b\ufeff\ttabs\n\n",
]

PEOPLE, THINGS = "Ada Ben Cleo Dan Éva".split(), ["a red ball", "an old book", "two paper birds", "nothing at all"]


def story(sentences: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    lines = (f"{rng.choice(PEOPLE)} gave {rng.choice(PEOPLE)} {rng.choice(THINGS)}." for _ in range(sentences))
    return "\n".join(lines)


SETTINGS = one.Settings(
    vocab_size=320,
    block_size=16,
    n_layer=2,
    n_head=2,
    n_embd=24,
    steps=10,
    batch_size=4,
    lr=0.01,
    warmup_steps=3,
    weight_decay=0.5,
    clip=1.6,
    seed=5,
)


def as_config(settings: object, vocab_size: int = 320) -> linnet.Config:
    """What the package is told to do the same: the shape of the recipe `synapse`."""
    s = settings
    model = linnet.ModelConfig(
        vocab_size=vocab_size,
        block_size=s.block_size,
        n_layer=s.n_layer,
        n_head=s.n_head,
        n_embd=s.n_embd,
        position="learned",
        norm="layernorm",
        activation="relu",
        norm_bias=True,
        linear_bias=True,
        head_bias=True,
        qk_norm=False,
        init="gpt2",
    )
    train = linnet.TrainConfig(
        steps=s.steps,
        batch_size=s.batch_size,
        clip=s.clip,
        seed=s.seed,
        log_interval=1,
        eval_interval=s.steps,
        sample_tokens=0,
        compile="off",
        device="cpu",
        threads=1,
    )
    return linnet.Config(
        prepare=linnet.DataConfig(vocab_size=s.vocab_size),
        model=model,
        optim=linnet.OptimConfig(kind="adamw", lr=s.lr, weight_decay=s.weight_decay),
        schedule=linnet.ScheduleConfig(kind="cosine", warmup_steps=s.warmup_steps),
        train=train,
    )


def test_the_file_stands_by_itself_and_is_short() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
    assert not [line for line in lines if line.startswith(("import linnet", "from linnet"))]


def test_of_equally_frequent_pairs_the_smallest_ids_are_merged_first() -> None:
    # "zy" three times, then " a" "ab" "bc" twice each: of these three " a" is (32, 97), which makes 257 of "zy" = 256
    assert one.learn_merges("zyzy abc zy abc", 3) == [(122, 121), (32, 97), (98, 99)]


@pytest.mark.parametrize("text", [*NAUGHTY, " ".join(NAUGHTY), story(300)], ids=range(len(NAUGHTY) + 2))
def test_both_learn_the_same_merges(text: str) -> None:
    learned = linnet.BPETokenizer.train([text], vocab_size=420)
    merges = one.learn_merges(text, 420 - 256 - one.SPECIALS)
    assert merges == learned.merges
    ours = one.Tokenizer(merges)
    assert (ours.end_of_text, ours.vocab_size) == (learned.end_of_text, learned.vocab_size)


def test_both_give_a_text_the_same_ids_and_ids_the_same_text() -> None:
    text = " ".join(NAUGHTY) + story(300)
    learned = linnet.BPETokenizer.train([text], vocab_size=500)
    ours = one.Tokenizer(one.learn_merges(text, 500 - 256 - one.SPECIALS))
    for other in [*NAUGHTY, story(20, seed=1), "", "Zyx wvu 7.5%", text[::-1]]:
        assert ours.encode(other) == learned.encode(other)
        assert ours.decode(ours.encode(other)) == other
        cut = ours.encode(other)[1:-1]  # may begin and end inside a character
        assert ours.decode(cut) == learned.decode(cut)


@pytest.mark.parametrize("length", [16 * 7 + 1, 16 * 7, 16 * 7 + 9])
def test_both_cut_the_same_windows_in_the_same_order_through_several_epochs(length: int) -> None:
    ids = np.random.default_rng(0).integers(0, 300, length)
    offsets = np.array([0, length], "<u8")
    tokens = ids.astype("<u2")
    split = Split(
        name="train", tokens=tokens, mask=None, offsets=offsets, characters=1, bytes=1, end_of_text=300, vocab_size=305
    )
    batches = Batches(split, block_size=16, seed=5)
    for first in range(0, 40, 4):  # 6 or 7 windows in an epoch
        x, y = batches.batch(first, 4)[:2]
        for theirs, ours in zip((x, y), one.batch(ids, first, SETTINGS), strict=True):
            assert np.array_equal(theirs, ours.numpy())


def test_both_begin_with_the_same_weights_from_the_same_seed() -> None:
    torch.manual_seed(5)
    theirs = linnet.Transformer(as_config(SETTINGS).model).state_dict()
    torch.manual_seed(5)
    ours = one.Transformer(SETTINGS, 320).state_dict()
    assert list(ours) == list(theirs)
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set()


def test_both_see_the_same_logits_with_equal_weights() -> None:
    theirs = linnet.Transformer(as_config(SETTINGS).model)
    ours = one.Transformer(SETTINGS, 320)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # biases and gains as well, which begin alike
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randint(320, (3, 16))
    torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float], torch.nn.Module, object]:
    """The package's run on a text file; and the losses, the model and the tokenizer of the one file for the same."""
    text, folder = story(60), tmp_path_factory.mktemp("one-file")
    (folder / "some.txt").write_text(text, encoding="utf-8")
    linnet.train(as_config(SETTINGS), data=str(folder / "some.txt"), run=folder / "run")
    read = text[: len(text) * 19 // 20]  # the package holds out the last twentieth
    tokenizer = one.Tokenizer(one.learn_merges(read, SETTINGS.vocab_size - 256 - one.SPECIALS))
    ids = np.array([*tokenizer.encode(read), tokenizer.end_of_text])
    assert len(ids) // 16 < SETTINGS.steps * SETTINGS.batch_size, "the text is read more than once"
    torch.manual_seed(SETTINGS.seed)
    model = one.Transformer(SETTINGS, tokenizer.vocab_size)
    losses = [loss for _, loss in one.train(model, ids, SETTINGS)]
    return folder / "run", losses, model, tokenizer


def test_ten_steps_of_both_have_the_same_losses(trained: tuple) -> None:
    run, losses, _, _ = trained
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    theirs = [row["train_loss"] for row in rows if row["kind"] == "train"]
    assert losses == pytest.approx(theirs, abs=2e-5)
    assert losses[0] == pytest.approx(math.log(SETTINGS.vocab_size), abs=0.1), "an untrained model guesses"
    assert losses[-1] < losses[0] - 1, "ten steps have taught it something"
    norms = [row["grad_norm"] for row in rows if row["kind"] == "train"]
    assert min(norms) < SETTINGS.clip < max(norms), "some steps are clipped and some are not"


def test_ten_steps_of_both_lead_to_the_same_weights(trained: tuple) -> None:
    run, _, model, _ = trained
    theirs = linnet.load(run, checkpoint="last", device="cpu").model.state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=2e-4, msg=lambda text, name=name: name + text)


PROMPTS = ["Ada gave", "", "Éva gave Dan nothing at all.\n" * 4]


@pytest.mark.parametrize("prompt", PROMPTS, ids=["short", "empty", "longer than the context"])
def test_equal_weights_write_the_same_text_also_beyond_the_context(prompt: str) -> None:
    learned = linnet.BPETokenizer.train([story(60)], vocab_size=320)
    tokenizer = one.Tokenizer(learned.merges)
    model = one.Transformer(SETTINGS, tokenizer.vocab_size)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter)  # so wild that each token depends on all that is seen
    with torch.no_grad():
        model.lm_head.bias[tokenizer.end_of_text :] = -1000  # it never ends
    theirs = linnet.Transformer(as_config(SETTINGS, tokenizer.vocab_size).model)
    theirs.load_state_dict(model.state_dict())
    text = linnet.LM(theirs, learned).generate(prompt, max_new_tokens=45, temperature=0)
    assert len(set(text)) > 10
    assert one.write(model, tokenizer, prompt, 45, SETTINGS.block_size, temperature=0) == text


def test_a_trained_run_writes_the_same_text_in_both(trained: tuple) -> None:
    run, _, _, tokenizer = trained
    lm = linnet.load(run, checkpoint="last", device="cpu")
    model = one.Transformer(SETTINGS, tokenizer.vocab_size)
    model.load_state_dict(lm.model.state_dict())
    text = lm.generate("Ada gave", max_new_tokens=20, temperature=0)
    assert one.write(model, tokenizer, "Ada gave", 20, SETTINGS.block_size, temperature=0) == text


def test_a_text_without_a_word_cannot_end_and_any_other_can(trained: tuple) -> None:
    _, _, model, tokenizer = trained
    eager = one.Transformer(SETTINGS, tokenizer.vocab_size)
    eager.load_state_dict(model.state_dict())
    with torch.no_grad():
        eager.lm_head.bias[tokenizer.end_of_text] += 50  # nothing is likelier than the end
    assert len(one.write(eager, tokenizer, "", 9, 16)) == 1
    assert one.write(eager, tokenizer, "Ada", 9, 16) == ""


def test_the_program_learns_a_file_and_writes(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(one, "Settings", lambda: replace(SETTINGS, steps=50))
    (tmp_path / "some.txt").write_text(story(200), encoding="utf-8")
    one.main([str(tmp_path / "some.txt")])
    lines = capsys.readouterr().out.splitlines()
    assert "tokens of 318 kinds; guessing among them has a loss of 5.76." in lines[0]
    assert [line.split()[:4] for line in lines[1:3]] == [["step", "1", "of", "50"], ["step", "50", "of", "50"]]
    first, last = (float(line.split()[5]) for line in lines[1:3])
    assert last < first - 2
    assert any(name in "".join(lines[3:]) for name in PEOPLE)


def test_the_program_makes_a_text_up_where_none_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setattr(one, "Settings", lambda: SETTINGS)
    one.main([])
    assert "No file was named" in capsys.readouterr().out


UNREADABLE = [(b"\xff\xfe\xfd", "UTF-8"), (b"too short", "10 tokens"), (None, "No such file")]


@pytest.mark.parametrize(("content", "message"), UNREADABLE, ids=["no UTF-8", "too short", "no file"])
def test_the_program_says_in_a_sentence_what_it_cannot_read(tmp_path: Path, content, message: str) -> None:
    if content is not None:
        (tmp_path / "no.txt").write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        one.main([str(tmp_path / "no.txt")])
