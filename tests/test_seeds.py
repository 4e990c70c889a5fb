"""The recipes of the five systems: their documents' numbers, exact parameter counts, and runs from start to end."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from shared_texts import shared_data

import linnet
from linnet.data import DataConfig, Prepared, prepare
from linnet.data.dialogues import keys
from linnet.errors import UserError
from linnet.evaluate.source import document_content
from linnet.evaluation import document_ids
from linnet.lm import LM
from linnet.model.costs import parameter_count
from linnet.run import Run
from linnet.settings import from_dict, read_toml, recipe_path
from linnet.tokenizers import Tokenizer
from linnet.training.recipe import Config
from linnet.training.schedule import lr_scale

SLM = ("slm-nano", "slm-small", "slm-medium", "slm-large")
RECIPES = ("synapse", "tinygpt-word", *SLM, "tinygpt-char", "mrityunjaya")
WITH_GPT2 = (*SLM, "mrityunjaya")


def recipe(name: str) -> Config:
    return from_dict(Config, read_toml(recipe_path(name)), Config())


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise UserError("the hub is not asked in tests")

    monkeypatch.setattr("linnet.tokenizers.hub.gpt2_from_hub", unreachable)


def model(vocab: int, block: int, layers: int, heads: int, width: int, dropout: float) -> dict[str, object]:
    return {
        "model.vocab_size": vocab,
        "model.block_size": block,
        "model.n_layer": layers,
        "model.n_head": heads,
        "model.n_embd": width,
        "model.dropout": dropout,
    }


SLM_TRAINING = {
    "prepare.tokenizer": "gpt2",
    "model.tie_embeddings": True,
    "model.qkv_bias": True,
    "model.linear_bias": True,
    "model.init": "gpt2",
    "model.activation": "gelu",
    "optim.kind": "adamw",
    "optim.lr": 1e-4,
    "schedule.kind": "cosine",
    "train.steps": 20_000,
    "train.micro_batch_size": 32,
    "train.batch_size": 32 * 32,
    "train.clip": 0.5,
}

STATED = {
    "synapse": {
        **model(1500, 128, 4, 4, 128, 0.0),
        "prepare.vocab_size": 1500,
        "prepare.tokenizer": "bpe",
        "prepare.identity": True,
        "prepare.assistant_name": "Synapse",
        "prepare.assistant_creator": "Abhinav",
        "model.activation": "relu",
        "model.norm_placement": "pre",
        "model.tie_embeddings": False,
        "train.steps": 5000,
        "train.clip": 0.0,
    },
    "tinygpt-word": {"prepare.tokenizer": "word", "model.norm": "layernorm", "model.position": "learned"},
    "slm-nano": {**model(50257, 64, 4, 4, 128, 0.1), **SLM_TRAINING},
    "slm-small": {**model(50257, 128, 6, 6, 384, 0.1), **SLM_TRAINING},
    "slm-medium": {**model(50257, 256, 8, 8, 512, 0.1), **SLM_TRAINING},
    "slm-large": {**model(50257, 512, 12, 12, 768, 0.1), **SLM_TRAINING},
    "tinygpt-char": {
        **model(145 + 6, 64, 12, 8, 384, 0.2),
        "prepare.tokenizer": "char",
        "prepare.vocab_size": 145 + 6,
        "model.norm_placement": "post",
        "optim.lr": 3e-4,
        "train.batch_size": 256,
        "train.steps": 10_000,
    },
    "mrityunjaya": {
        **model(50257, 256, 6, 6, 384, 0.2),
        "prepare.tokenizer": "gpt2",
        "model.activation": "gelu",
        "model.norm_placement": "pre",
        "model.attention": "manual",
        "optim.kind": "adamw",
        "optim.lr": 3e-4,
        "schedule.kind": "cosine",
        "train.batch_size": 64,
        "train.steps": 5000,
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_every_number_of_its_document(name: str) -> None:
    config = recipe(name)
    found = {key: getattr(getattr(config, key.split(".")[0]), key.split(".")[1]) for key in STATED[name]}
    assert found == STATED[name]


def test_what_document_001_asks_for_without_a_number_is_on() -> None:
    config = recipe("tinygpt-word")
    assert config.model.dropout > 0
    assert config.optim.weight_decay > 0


def block(C: int, biases: int) -> int:
    """Parameters of a block of width C: 12 C² in matrices, and `biases` times C in biases and norms."""
    return 12 * C * C + biases * C


NORMS = 4  # two layer norms, a gain and a bias each
ALL_BIASES = 3 + 1 + 4 + 1  # of queries, keys and values; of the attention's output; of the MLP's two matrices

BY_HAND = {
    "synapse": 1500 * 128 + 128 * 128 + 4 * block(128, NORMS + ALL_BIASES - 3) + 2 * 128 + (128 + 1) * 1500,
    "tinygpt-word": 2048 * 32 + 64 * 32 + 2 * block(32, NORMS + ALL_BIASES - 3) + 2 * 32 + (32 + 1) * 2048,
    "slm-nano": (50257 + 64) * 128 + 4 * block(128, NORMS + ALL_BIASES) + 4 * 128,
    "slm-small": (50257 + 128) * 384 + 6 * block(384, NORMS + ALL_BIASES) + 4 * 384,
    "slm-medium": (50257 + 256) * 512 + 8 * block(512, NORMS + ALL_BIASES) + 4 * 512,
    "slm-large": (50257 + 512) * 768 + 12 * block(768, NORMS + ALL_BIASES) + 4 * 768,
    "tinygpt-char": (151 + 64) * 384 + 12 * block(384, NORMS + ALL_BIASES - 3) + 2 * 384 + (384 + 1) * 151,
    "mrityunjaya": (50257 + 256) * 384 + 6 * block(384, NORMS) + 2 * 384,
}

EXACT = {
    "synapse": 1_193_692,
    "tinygpt-word": 160_448,
    "slm-nano": 7_234_688,
    "slm-small": 29_996_160,
    "slm-medium": 51_083_776,
    "slm-large": 124_048_128,
    "tinygpt-char": 21_421_207,
    "mrityunjaya": 30_023_808,
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_parameter_count_is_the_one_worked_out_by_hand(name: str) -> None:
    assert parameter_count(recipe(name).model) == BY_HAND[name] == EXACT[name]


def test_the_counts_of_the_systems_own_codes_differ_only_where_this_project_adds_something() -> None:
    assert EXACT["synapse"] == 1_193_692  # nothing: the five special tokens are among the 1,500
    assert EXACT["mrityunjaya"] == 30_023_808  # nothing
    assert EXACT["tinygpt-char"] - 6 * (2 * 384 + 1) == 21_416_593  # U+FFFD and the five special tokens
    rounded = {"slm-nano": 7.23, "slm-small": 30.0, "slm-medium": 51.1, "slm-large": 124}  # millions, as measured
    for name, millions in rounded.items():  # the norm of the embeddings, two numbers for each dimension
        own = dataclasses.replace(recipe(name).model, embedding_norm=False)
        assert parameter_count(own) == EXACT[name] - 2 * own.n_embd
        assert float(f"{parameter_count(own) / 1e6:.3g}") == millions


def test_38012_parameters_are_two_layers_of_32_a_context_of_16_and_188_words() -> None:
    own = dataclasses.replace(recipe("tinygpt-word").model, vocab_size=188, block_size=16)
    assert parameter_count(own) == 38_012


def test_the_claimed_counts_are_those_of_other_models() -> None:
    """What would have to be left out of a model for its claimed count to be true."""
    char = recipe("tinygpt-char").model
    eight_layers = dataclasses.replace(char, n_layer=8, vocab_size=145)
    assert parameter_count(eight_layers) == pytest.approx(14.26e6, rel=0.005)
    small = recipe("slm-small").model
    without_vocabulary = EXACT["slm-small"] - small.vocab_size * small.n_embd
    assert without_vocabulary < 15e6 < EXACT["slm-small"]
    synapse = recipe("synapse").model
    without_head = EXACT["synapse"] - (synapse.n_embd + 1) * synapse.vocab_size
    assert without_head > 800_000 * 1.2  # not even then


def test_tying_saves_what_the_head_would_hold() -> None:
    shares = {}
    for name in SLM:
        untied = parameter_count(dataclasses.replace(recipe(name).model, tie_embeddings=False))
        shares[name] = round(1 - EXACT[name] / untied, 2)
    assert shares == {"slm-nano": 0.47, "slm-small": 0.39, "slm-medium": 0.33, "slm-large": 0.24}


def test_the_claimed_figures_of_document_002_contradict_each_other() -> None:
    assert math.log(50257) == pytest.approx(10.82, abs=0.01)  # the loss of a model that knows nothing; claimed: 9.5
    assert math.exp(2.6) == pytest.approx(13.46, abs=0.01)  # claimed: 16.2
    tokens_in_4_hours = 450 * 4 * 3600
    tokens_of_20000_iterations = 20_000 * 32 * 128
    assert tokens_of_20000_iterations / tokens_in_4_hours == pytest.approx(12.6, abs=0.1)


@pytest.mark.parametrize("name", RECIPES)
def test_the_learning_rate_warms_up_and_never_rises_again(name: str) -> None:
    config = recipe(name)
    steps, warmup = config.train.steps, config.schedule.warmup_steps
    curve = [lr_scale(step, step / steps, config.schedule) for step in range(0, steps, max(1, steps // 1000))]
    after = [scale for step, scale in zip(range(0, steps, max(1, steps // 1000)), curve, strict=True) if step >= warmup]
    assert max(curve) <= 1
    assert after == sorted(after, reverse=True)
    if config.schedule.kind == "cosine":
        assert lr_scale(steps, 1.0, config.schedule) == 0


def reduced(name: str, steps: int, **options: Any) -> Config:
    """The recipe's own model on little text: two micro-batches of two windows a step."""
    config = recipe(name)
    train = dataclasses.replace(
        config.train,
        batch_size=4,
        micro_batch_size=2,
        steps=steps,
        eval_interval=steps,
        log_interval=1,
        compile="off",
        device="cpu",
        threads=1,
        sample_tokens=min(config.train.sample_tokens, 4),
    )
    options = {"builtin_documents": 120, **options}
    return dataclasses.replace(config, train=train, prepare=dataclasses.replace(config.prepare, **options))


def losses_of(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["train_loss"] for line in lines if line["kind"] == "train"]


def check_run(name: str, lm: LM, run: Path, steps: int) -> None:
    """The recipe's model was built, began knowing nothing, learned in every step, and speaks."""
    shape = dataclasses.asdict(recipe(name).model)
    built = dataclasses.asdict(lm.config)
    assert {key for key in shape if shape[key] != built[key]} <= {"vocab_size", "end_of_text"}
    assert parameter_count(lm.config) == sum(parameter.numel() for parameter in lm.model.parameters())
    losses = losses_of(run)
    assert len(losses) == steps
    assert all(map(math.isfinite, losses))
    # a wide model with normalised embeddings and a tied head begins with a leaning towards the token it has just read
    leaning = 3.0 if name == "slm-large" else 1.0
    assert losses[0] == pytest.approx(math.log(lm.tokenizer.vocab_size), abs=leaning)
    assert isinstance(lm.generate("Once", max_new_tokens=3, seed=1), str)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("synapse", 20),
        ("tinygpt-word", 20),
        ("slm-nano", 20),
        ("slm-medium", 2),
        # about half a minute each on one thread, so all twenty steps are in the slow lane
        ("tinygpt-char", 5),
        ("slm-small", 2),
        ("mrityunjaya", 2),
        pytest.param("tinygpt-char", 20, marks=pytest.mark.slow),
        pytest.param("slm-small", 20, marks=pytest.mark.slow),
        pytest.param("mrityunjaya", 20, marks=pytest.mark.slow),
        # 86 million parameters without the vocabulary: more than a minute for two steps on one thread
        pytest.param("slm-large", 2, marks=pytest.mark.slow),
    ],
)
def test_every_recipe_runs_on_the_built_in_corpus(name: str, steps: int, tmp_path: Path) -> None:
    lm = linnet.train(reduced(name, steps), run=tmp_path / "run")
    check_run(name, lm, tmp_path / "run", steps)
    if name in ("synapse", "tinygpt-word", "tinygpt-char"):  # the others are still warming up
        losses = losses_of(tmp_path / "run")
        assert losses[-1] < losses[0] - 0.1


def excerpt(name: str, characters: int, folder: Path) -> str:
    """The beginning of a text of the shared data, as a file of its own."""
    path = folder / name
    path.write_text(shared_data(name).read_text(encoding="utf-8")[:characters], encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "text", "characters"),
    [
        ("synapse", "chat_pairs.csv", 300_000),
        ("tinygpt-word", "chat_pairs.csv", 300_000),
        ("tinygpt-char", "tinyshakespeare.txt", 8_000),
        ("slm-nano", "tinystories.txt", 60_000),
        pytest.param("slm-small", "tinystories.txt", 60_000, marks=pytest.mark.slow),
        pytest.param("slm-medium", "tinystories.txt", 60_000, marks=pytest.mark.slow),
        pytest.param("slm-large", "tinystories.txt", 60_000, marks=pytest.mark.slow),
        pytest.param("mrityunjaya", "tinystories.txt", 60_000, marks=pytest.mark.slow),
    ],
)
def test_every_recipe_runs_on_its_own_kind_of_data(name: str, text: str, characters: int, tmp_path: Path) -> None:
    """With GPT-2's vocabulary where the document has it: the model is then exactly the recipe's."""
    options = {"tokenizer": str(shared_data("gpt2"))} if name in WITH_GPT2 else {}
    config = reduced(name, 2, **options)
    if name == "slm-large":  # one window at a time keeps 124 million parameters and their logits well under 6 GB
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, micro_batch_size=1))
    lm = linnet.train(config, data=excerpt(text, characters, tmp_path), run=tmp_path / "run")
    check_run(name, lm, tmp_path / "run", 2)
    if name in (*WITH_GPT2, "synapse"):
        assert parameter_count(lm.config) == EXACT[name]
    splits = Prepared.open(tmp_path / "run" / "data").manifest["splits"]
    if name == "tinygpt-char":  # the customary split: nine tenths and one
        assert splits["val"]["characters"] == pytest.approx(characters / 10, abs=1)
    elif name in WITH_GPT2:  # not one endless text, as where a separator is missing
        assert splits["train"]["documents"] > 40


def test_no_question_of_synapses_validation_stands_in_training(tmp_path: Path) -> None:
    config = dataclasses.replace(recipe("synapse").prepare, sources=(str(shared_data("chat_pairs.csv")),))
    prepared = prepare(config, tmp_path / "data")
    tokenizer, template = prepared.tokenizer(), linnet.ChatTemplate.default()

    def questions(split: str) -> list[str]:
        contents = (document_content(ids, tokenizer, template) for ids in document_ids(prepared.split(split)))
        return [keys([dict(message) for message in content or ()])[1] for content in contents]

    training, validation = questions("train"), questions("val")
    assert len(validation) > 40
    assert not set(training) & set(validation)
    assert "question\0what is your name" in training
    answers = [document_content(ids, tokenizer, template) for ids in document_ids(prepared.split("train"))]
    assert any("My name is Synapse." in str(answer) for answer in answers)


def tokenizer_of(name: str, text: str, folder: Path) -> Tokenizer:
    (folder / "text.txt").write_text(text, encoding="utf-8")
    config: DataConfig = dataclasses.replace(recipe(name).prepare, sources=(str(folder / "text.txt"),))
    return prepare(config, folder / "data").tokenizer()


def test_tinygpt_word_drops_no_unknown_word(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("tinygpt-word", "a bird sang and a bird flew. " * 40, tmp_path)
    assert tokenizer.decode(tokenizer.encode("Hello! A zebra sang 🦓")) == "Hello! A zebra sang 🦓"
    assert len(tokenizer.encode(" bird")) == 1


def test_tinygpt_char_has_an_id_for_characters_it_never_saw(tmp_path: Path) -> None:
    alphabet = "".join(chr(code) for code in range(0x400, 0x400 + 145))
    tokenizer = tokenizer_of("tinygpt-char", alphabet * 20, tmp_path)
    assert tokenizer.vocab_size == 151
    assert tokenizer.decode(tokenizer.encode(alphabet)) == alphabet
    assert tokenizer.decode(tokenizer.encode("☃")) == "�"


def test_the_steps_after_the_last_round_interval_are_saved_too(tmp_path: Path) -> None:
    config = reduced("mrityunjaya", 5)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, n_layer=1, n_head=2, n_embd=16, block_size=16),
        train=dataclasses.replace(config.train, eval_interval=3),
    )
    linnet.train(config, run=tmp_path / "run")
    assert [checkpoint.step for checkpoint in Run(tmp_path / "run").checkpoints()][-1] == 5
