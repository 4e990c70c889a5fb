"""What a run is asked while it trains: dialogues answer one of their questions, texts are continued."""

from pathlib import Path

import pytest

import linnet
from linnet.data import DataConfig, Prepared, prepare
from linnet.lm import LM
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.run.rows import read_rows
from linnet.tokenizers import ChatTemplate
from linnet.training.pretrain import train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.sample import GREETING, Sampler, only_dialogues, opening_turns


@pytest.fixture(scope="module")
def pairs_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues alone: 300 questions and answers."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [f"What is {n} plus one?,It is {n + 1}." for n in range(300)]
    (folder / "pairs.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    prepare(DataConfig(sources=(str(folder / "pairs.csv"),), vocab_size=300, val_fraction=0.2), folder / "data")
    return folder / "data"


def untrained(data: Path, block_size: int = 64) -> LM:
    prepared = Prepared.open(data)
    tokenizer = prepared.tokenizer()
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, block_size=block_size, n_layer=1, n_head=2, n_embd=16)
    template = None if prepared.template_path is None else ChatTemplate.load(prepared.template_path)
    return LM(Transformer(shape), tokenizer, template)


def test_a_run_on_dialogues_answers_a_question_of_its_validation_split(pairs_data: Path, tmp_path: Path) -> None:
    settings = Config(
        model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16),
        schedule=ScheduleConfig(warmup_steps=2),
        train=TrainConfig(steps=4, eval_interval=2, batch_size=4, compile="off", sample_prompt="Once", sample_tokens=5),
    )
    run = train(settings, pairs_data, tmp_path / "run")
    rows = read_rows(run.samples_file)
    split = Prepared.open(pairs_data).split("val")
    questions = {turns[-1]["content"] for turns in opening_turns(untrained(pairs_data), split, 1000)}
    (asked,) = {row["prompt"] for row in rows}
    assert asked in questions
    answer = linnet.load(run.path, checkpoint="last", device="cpu").chat(
        [{"role": "user", "content": asked}], max_new_tokens=5, seed=0
    )
    assert rows[-1]["text"] == f"{asked} → {answer}"


def test_texts_and_mixtures_are_continued_from_the_prompt(story_data: Path, dialogue_data: Path) -> None:
    for data in (story_data, dialogue_data):
        lm, split = untrained(data), Prepared.open(data).split("val")
        assert not only_dialogues(lm, split)
        sampler = Sampler.of(lm, split, "Once", 4)
        assert sampler.write(lm) == {"prompt": "Once", "text": "Once" + lm.generate("Once", max_new_tokens=4, seed=0)}


def test_openings_are_questions_of_different_documents_in_the_words_of_the_data(pairs_data: Path) -> None:
    lm, split = untrained(pairs_data), Prepared.open(pairs_data).split("val")
    openings = opening_turns(lm, split, 5)
    assert len({turns[-1]["content"] for turns in openings}) == 5
    written = (pairs_data.parent / "pairs.csv").read_text(encoding="utf-8")
    for turns in openings:
        assert [turn["role"] for turn in turns] == ["user"]
        assert f"\n{turns[0]['content']}," in written


def test_a_greeting_stands_in_for_questions_that_leave_no_room_or_cannot_be_read(pairs_data: Path) -> None:
    split = Prepared.open(pairs_data).split("val")
    narrow = untrained(pairs_data, block_size=8)
    assert opening_turns(narrow, split, 3) == []
    odd = untrained(pairs_data)
    source = ChatTemplate.default().source.replace("'<|end|>'", "'.<|end|>'")
    odd.template = ChatTemplate(source)  # not the one that the data was written with
    for lm in (narrow, odd):
        assert Sampler.of(lm, split, "Once", 4).messages == [{"role": "user", "content": GREETING}]
        assert Sampler.of(lm, split, "Once", 4).write(lm)["text"].startswith(f"{GREETING} → ")


def test_samples_are_different_and_the_first_is_that_of_each_evaluation(pairs_data: Path, story_data: Path) -> None:
    for data in (pairs_data, story_data):
        lm, split = untrained(data), Prepared.open(data).split("val")
        sampler = Sampler.of(lm, split, "Once", 8)
        three = sampler.samples(lm)
        assert three[0] == sampler.write(lm)
        assert len({row["text"] for row in three}) == 3
        assert all(row["text"].startswith(row["prompt"]) for row in three)


def test_several_texts_of_a_run_on_one_document_go_on_from_words_it_has_not_seen(
    tmp_path: Path, story_data: Path
) -> None:
    words = [f"word{n}" for n in range(600)]
    (tmp_path / "one.txt").write_text("\n".join(words), encoding="utf-8")
    prepare(DataConfig(sources=(str(tmp_path / "one.txt"),), vocab_size=300, val_fraction=0.2), tmp_path / "data")
    lm, split = untrained(tmp_path / "data"), Prepared.open(tmp_path / "data").split("val")
    sampler = Sampler.of(lm, split, "", 8)
    assert len(set(sampler.beginnings)) == 8
    for beginning in sampler.beginnings:
        first, *others = (words.index(word) for word in beginning.split())
        assert first >= 470  # of the fifth that is held out
        assert others == list(range(first + 1, first + 1 + len(others)))
    assert [row["prompt"] for row in sampler.samples(lm, 2)] == list(sampler.beginnings[:2])
    assert sampler.write(lm)["prompt"] == ""
    assert Sampler.of(lm, split, "Once", 8).beginnings == ()
    many = Prepared.open(story_data)
    assert Sampler.of(untrained(story_data), many.split("val"), "", 8).beginnings == ()
