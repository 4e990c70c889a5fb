"""`linnet tune`: from a run and some dialogues to a run that answers; stopped, continued, and refused."""

import functools
import io
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from stopping import StopAfter

import linnet
from linnet.__main__ import main
from linnet.data import Prepared
from linnet.evaluate.loss import evaluate
from linnet.files import sha256
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.tokenizers.base import END_OF_TEXT
from linnet.training import checkpoint, pretrain
from linnet.training.loop import Loop
from linnet.training.pretrain import train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.verbs import carrying_out
from linnet.verbs import tune as tune_verb

TIMING = {"elapsed_s", "tokens_per_s", "memory_bytes"}
SHAPE = ModelConfig(block_size=64, n_layer=1, n_head=2, n_embd=16, dropout=0.0)
QUICK = ["--train.sample-tokens", "0", "--train.compile", "off", "--train.threads", "1", "--train.log-interval", "2"]
PAIRS = [("Who sat on the wall?", "A hen."), ("What did it say?", "It sang <|end|> all day.")]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves and pages are drawn by tests of their own."""
    monkeypatch.setattr("linnet.plots.draw_run", lambda run: None)
    monkeypatch.setattr("linnet.report.write_report", lambda run: run.path / "report.html")


def run_of(data: Path, folder: Path, **changes: object) -> Path:
    quick = TrainConfig(steps=6, batch_size=4, eval_interval=2, sample_tokens=0, compile="off", threads=1)
    train(Config(model=SHAPE, train=quick, schedule=ScheduleConfig(warmup_steps=1)), data, folder, spoken=False)
    return folder


@pytest.fixture(scope="module")
def stories(story_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never shown a dialogue."""
    return run_of(story_data, tmp_path_factory.mktemp("stories") / "stories")


@pytest.fixture(scope="module")
def talks(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned dialogues."""
    return run_of(dialogue_data, tmp_path_factory.mktemp("talks") / "talks")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return table(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many as hold some out."""
    pairs = [(f"What is the number after {n}?", f"After {n} comes {n + 1}.") for n in range(220)]
    return table(tmp_path_factory.mktemp("many") / "many.jsonl", pairs)


def table(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs), encoding="utf-8")
    return path


def tune(base: Path, data: Path | None, run: Path, *flags: str, steps: int = 6) -> int:
    words = ["tune", str(base), *(["--data", str(data)] if data else []), "--run", str(run)]
    mix = [] if "--mix" in flags else ["--mix", "none"]
    return main([*words, "--train.steps", str(steps), *QUICK, *mix, *flags])


def files(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """All that the last checkpoint holds."""
    last = Run.open(run).checkpoint("last")
    names = [file.name for file in last.path.glob("*.safetensors")]
    return {f"{file} {name}": tensor for file in names for name, tensor in last.tensors(file).items()}


def timeless(run: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_rows(run / "metrics.jsonl")]


# what comes of it


def test_two_pairs_make_a_story_run_answer_and_leave_it_as_it_was(
    stories: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(stories)
    assert tune(stories, pairs, tmp_path / "tuned", "--optim.lr", "0.02", steps=150) == 0
    said = capsys.readouterr()
    assert "2 dialogues: too few to hold some out, so all are learned" in said.err
    assert f"next: linnet chat {tmp_path / 'tuned'}" in said.out
    assert files(stories) == before
    run = Run.open(tmp_path / "tuned")
    assert run.manifest()["from"]["run"] == "stories"
    assert run.manifest()["from"]["weights_sha256"] == Run.open(stories).checkpoint("best").weights_sha256
    assert run.config()["train"]["method"] == "sft"
    lm = linnet.load(run.path, device="cpu")
    for question, answer in PAIRS:
        said_back = lm.chat([{"role": "user", "content": question}], temperature=0, max_new_tokens=40)
        assert said_back == answer  # and it ended by itself
    losses = [row["train_loss"] for row in read_rows(run.metrics_file) if row["kind"] == "train"]
    assert losses[-1] < 0.2 < 4 < losses[0]


def test_many_pairs_hold_some_out_and_the_best_is_kept(
    talks: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(talks, many, tmp_path / "tuned", "--train.eval-interval", "3") == 0
    assert "so all are learned" not in capsys.readouterr().err
    run = Run.open(tmp_path / "tuned")
    looks = [row for row in read_rows(run.metrics_file) if row["kind"] == "eval"]
    assert [row["step"] for row in looks] == [3, 6]
    assert Prepared.open(run.path / "data").has("val")
    # what is scored is what the assistant says, each dialogue from its own beginning
    val = Prepared.open(run.path / "data").split("val")
    assert evaluate(
        linnet.load(run.path, checkpoint="last", device="cpu").model, val, assistant_only=True, by_document=True
    ).loss == pytest.approx(looks[-1]["val_loss"], rel=1e-5)
    assert main(["runs", str(tmp_path)]) == 0
    assert "tuned" in capsys.readouterr().out


def test_an_adapter_is_small_is_handed_on_and_equals_the_run(stories: Path, pairs: Path, tmp_path: Path) -> None:
    before = files(stories)
    tuned = tmp_path / "tuned"
    assert tune(stories, pairs, tuned, "--lora", "2", "--optim.lr", "0.05", steps=20) == 0
    assert files(stories) == before
    names = {file.name for file in Run.open(tuned).checkpoint("last").path.iterdir()}
    assert names == {"adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
    assert {file.name for file in (tuned / "adapter").iterdir()} == {
        "adapter.json",
        "adapter.safetensors",
        "template.jinja",
        "tokenizer.json",
    }
    # the marks of a chat were never shown: their rows are in the adapter
    marks = {id for name, id in Run.open(stories).tokenizer().special_ids.items() if name != END_OF_TEXT}
    assert set(rows_of(tuned)) == marks | used(tuned)
    base = Run.open(stories).checkpoint("best").tensors("model.safetensors")
    kept = safetensors.torch.load_file(tuned / "base.safetensors")
    assert base.keys() == kept.keys()
    assert all(torch.equal(base[name], kept[name]) for name in base)
    shutil.copytree(tuned / "adapter", tmp_path / "elsewhere")
    models = [
        linnet.load(tuned, device="cpu").model,
        linnet.load(stories, adapter=tmp_path / "elsewhere", device="cpu").model,
        linnet.load(stories, adapter=tuned, device="cpu").model,
    ]
    for other in models[1:]:
        assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), other.parameters(), strict=True))
    changed = [name for name, p in models[0].named_parameters() if not torch.equal(p, base[name])]
    assert any("qkv_proj" in name for name in changed)
    assert not any("norm" in name for name in changed)


def rows_of(tuned: Path) -> list[int]:
    found: list[int] = json.loads((tuned / "adapter" / "adapter.json").read_text())["row_ids"]
    return found


def used(tuned: Path) -> set[int]:
    """The ids of what a run was tuned with."""
    return set(Prepared.open(tuned / "data").split("train").tokens.tolist())


def test_the_rows_of_the_words_that_it_learns_are_in_the_adapter(talks: Path, pairs: Path, tmp_path: Path) -> None:
    assert tune(talks, pairs, tmp_path / "tuned", "--lora", "2") == 0
    assert set(rows_of(tmp_path / "tuned")) == used(tmp_path / "tuned")
    assert tune(talks, table(tmp_path / "new.jsonl", [("Q", "~^")]), tmp_path / "new", "--lora", "2") == 0
    assert {ord("~"), ord("^")} <= set(rows_of(tmp_path / "new"))  # bytes are ids


def test_a_tuned_run_is_tuned_again_and_so_is_one_with_adapters(talks: Path, pairs: Path, tmp_path: Path) -> None:
    assert tune(talks, pairs, tmp_path / "first", "--lora", "2") == 0
    assert tune(tmp_path / "first", pairs, tmp_path / "second", "--lora", "3", "--mix", "before=0.5") == 0
    assert Run.open(tmp_path / "second").manifest()["from"]["run"] == "first"
    first, second = (linnet.load(tmp_path / name, device="cpu").model for name in ("first", "second"))
    both = linnet.load(tmp_path / "first", adapter=tmp_path / "second" / "adapter", device="cpu").model
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), both.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), both.parameters(), strict=True))


def test_corpora_are_mixed_in_each_in_its_share(talks: Path, many: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("The hen sat on the wall and sang. " * 60)
    tuned = tmp_path / "tuned"
    assert tune(talks, many, tuned, "--mix", "before=0.3", f"{tmp_path / 'own.txt'}=0.2") == 0
    config = Run.open(tuned).config()["train"]
    assert config["mix"] == [f"{Run.open(talks).data().folder}=0.3", f"{tuned / 'mix-2'}=0.2"]
    assert Prepared.open(tuned / "mix-2").tokenizer().fingerprint() == Run.open(talks).tokenizer().fingerprint()
    assert not Prepared.open(tuned / "mix-2").has("val")


def test_prepared_data_is_taken_as_it_is(talks: Path, dialogue_data: Path, tmp_path: Path) -> None:
    assert tune(talks, dialogue_data, tmp_path / "tuned") == 0
    run = Run.open(tmp_path / "tuned")
    assert run.data().folder == dialogue_data
    assert run.config()["prepare"]["sources"] == ["builtin:stories", "builtin:dialogues"]
    assert not (tmp_path / "tuned" / "data").exists()


def test_a_dialogue_longer_than_the_context_is_said_and_learned_whole(
    stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = table(tmp_path / "long.jsonl", [("Tell me all.", "The hen sat. " * 60), PAIRS[0]])
    assert tune(stories, data, tmp_path / "tuned") == 0
    assert "1 dialogue longer than a row" in capsys.readouterr().err
    split = Prepared.open(tmp_path / "tuned" / "data").split("train")
    rows = [row["tokens"] for row in read_rows(tmp_path / "tuned" / "metrics.jsonl") if row["kind"] == "train"]
    assert rows[-1] >= int(split.mask.sum())  # labels of an epoch and more


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{"position": "learned", "rope_theta": 10_000.0}, {"token_shift": 2}])
def test_other_shapes_tune_and_say_what_they_learned(
    story_data: Path, pairs: Path, tmp_path: Path, shape: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "SHAPE", ModelConfig(block_size=64, n_layer=1, n_head=2, n_embd=16, **shape))
    base = run_of(story_data, tmp_path / "base")
    assert tune(base, pairs, tmp_path / "tuned", "--optim.lr", "0.02", steps=150) == 0
    lm = linnet.load(tmp_path / "tuned", device="cpu")
    said = lm.chat([{"role": "user", "content": PAIRS[0][0]}], temperature=0, max_new_tokens=40)
    assert said == PAIRS[0][1]


# stopped and continued


class CrashError(Exception):
    """The power was cut."""


WAYS = [
    pytest.param(["--mix", "before=0.3"], id="all weights, mixed"),
    pytest.param(["--lora", "2", "--train.micro-batch-size", "2"], id="adapters, micro-batches"),
    pytest.param([], id="all weights", marks=pytest.mark.slow),
    pytest.param(["--lora", "2", "--mix", "before=0.25"], id="adapters, mixed", marks=pytest.mark.slow),
]


def stopped_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A signal comes in the step after `step`."""
    whole = pretrain.train

    def stopping(*args: object, **options: object) -> Run:
        return whole(*args, stop=StopAfter(step), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "train", stopping)


def crashes_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Everything ends after `step` without a word, between two checkpoints."""
    whole = Loop.__iter__

    def crashing(loop: Loop) -> Iterator[object]:
        for row in whole(loop):
            yield row
            if row.step == step:
                raise CrashError

    monkeypatch.setattr(Loop, "__iter__", crashing)


@pytest.mark.trap(5)
@pytest.mark.parametrize("way", WAYS)
def test_a_tuning_that_crashed_and_was_stopped_goes_on_bit_for_bit(
    talks: Path, many: Path, tmp_path: Path, way: list[str]
) -> None:
    tuned, straight, flags = tmp_path / "tuned", tmp_path / "straight", ["--train.eval-interval", "3", *way]
    assert tune(talks, many, straight, *flags, steps=8) == 0
    with pytest.MonkeyPatch.context() as patch:
        crashes_at(patch, 5)
        with pytest.raises(CrashError):
            tune(talks, many, tuned, *flags, steps=8)
    assert Run.open(tuned).checkpoint("last").step == 3
    with pytest.MonkeyPatch.context() as patch:
        stopped_at(patch, 4)
        assert tune(talks, many, tuned, *flags, steps=8) in (130, 143)
    assert 3 < Run.open(tuned).checkpoint("last").step < 8
    assert tune(talks, many, tuned, *flags, steps=8) == 0
    here, there = tensors(tuned), tensors(straight)
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert timeless(tuned) == timeless(straight)
    if "--lora" in flags:
        assert files(tuned / "adapter") == files(straight / "adapter")


def test_a_tuning_that_died_while_it_was_prepared_begins_again(
    talks: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = tmp_path / "tuned"
    assert tune(talks, pairs, tuned, "--mix", "before=0.3", f"{pairs}=0.2", "--lora", "2") == 0
    expected = tensors(tuned)
    shutil.rmtree(tuned / "checkpoints")
    (tuned / "config.toml").unlink()  # as if it had been killed before the run was one
    for name in ("adapter", "plots"):
        shutil.rmtree(tuned / name, ignore_errors=True)
    for file in ("metrics.jsonl", "samples.jsonl", "training_log.csv"):
        (tuned / file).unlink(missing_ok=True)
    (tuned / "base.safetensors").write_bytes(b"of another base")
    assert tune(talks, pairs, tuned, "--mix", "before=0.3", f"{pairs}=0.2", "--lora", "2") == 0
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors(tuned).items())


def test_the_same_command_again_finds_it_finished_and_more_steps_continue_it(
    talks: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tmp_path / "tuned"
    assert tune(talks, pairs, tuned, "--lora", "2", steps=4) == 0
    before = files(tuned)
    capsys.readouterr()
    assert tune(talks, pairs, tuned, "--lora", "2", steps=4) == 0
    assert "is finished: 4 steps" in capsys.readouterr().err
    assert files(tuned) == before
    assert tune(talks, None, tuned, steps=6) == 0
    assert "continuing" in capsys.readouterr().err
    last = Run.open(tuned).checkpoint("last")
    assert last.step == 6
    assert sha256(tuned / "adapter" / "adapter.safetensors") == last.weights_sha256


def test_dialogues_that_were_edited_since_are_said(
    talks: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(talks, pairs, tmp_path / "tuned", steps=2) == 0
    table(pairs, [*PAIRS, ("And then?", "No more.")])
    assert tune(talks, pairs, tmp_path / "tuned", steps=4) == 0
    assert "pairs.jsonl is changed" in capsys.readouterr().err


def test_time_ends_a_tuning(talks: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which each look at it takes a hundredth of a second."""
    ticks = itertools.count()

    def clock() -> float:
        return next(ticks) / 100

    monkeypatch.setattr(pretrain, "Training", functools.partial(pretrain.Training, clock=clock))
    for verb in (tune_verb, carrying_out):
        monkeypatch.setattr(verb, "time", SimpleNamespace(monotonic=clock))
    assert tune(talks, many, tmp_path / "tuned", "--minutes", "0.1", steps=10**6) == 0
    last = Run.open(tmp_path / "tuned").checkpoint("last")
    assert last.state()["ended_by"] == "time"
    assert 1 < last.step < 600
    assert last.state()["elapsed_s"] <= 6


# refused, with nothing left behind


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"messages":[{"content":"hi"},{"role":"assistant","content":"yes"}]}', "message 1 has the role None"),
        ('{"messages":[{"role":"boss","content":"hi"}]}', "has the role 'boss'; allowed are system, user"),
        ('{"question":"What?","answer":""}\n{"question":"Who?","answer":" "}', "nothing to prepare"),
        ('{"messages":[{"role":"user","content":"hi"}]}', "nothing to learn an answer from"),
        ('{"text":"Only a text."}', "holds no dialogues to tune with"),
        ("", "nothing to prepare"),
    ],
    ids=["no role", "unknown role", "empty answers", "no answer", "plain text", "empty file"],
)
def test_dialogues_that_cannot_be_learned_are_refused(
    talks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str, said: str
) -> None:
    (tmp_path / "chats.jsonl").write_text(lines + "\n")
    assert tune(talks, tmp_path / "chats.jsonl", tmp_path / "tuned") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("linnet: ")
    assert said in error
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mix", "before"], "--mix before is not understood"),
        (["--mix", "before=1"], "leave some of each batch for --data"),
        (["--mix", "before=0.6", "a.txt=0.5"], "--mix a.txt=0.5"),
        (["--mix", "nowhere.txt=0.2"], "no file or folder nowhere.txt"),
        (["--mix", "before=0.3", "--mix", "reworded=0.6"], "--mix is given twice, and only the last would count"),
        (["--lora", "0"], "--lora is 0; name a rank of 1 or more, or leave it out to tune all weights"),
        (["--lora", "-1"], "--lora is -1; name a rank of 1 or more"),
        (["--lora", "5000"], "adapter.rank must be 0 (no adapters) to 1024, got 5000"),
        (["--minutes", "0"], "max_minutes must be above 0, got 0.0"),
        (["--minutes", "nan"], "max_minutes must be above 0, got nan"),
        (["--method", "dpo"], "invalid choice 'dpo'"),
        (["--train.method", "dpo"], "invalid choice 'dpo'"),
        (["--train.counted", "0.2"], "for pretraining"),
        (["--train.noise", "0.2"], "for pretraining"),
        (["--model.n-layer", "2"], "leave --model.n-layer away"),
        (["--checkpoint", "77"], "no checkpoint '77'"),
        (["--optim.lr", "-1"], "optim.lr must be above 0"),
    ],
    ids=" ".join,
)
def test_flags_that_mean_nothing_are_refused_and_nothing_is_left(
    talks: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert tune(talks, pairs, tmp_path / "tuned", *flags) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error
    assert not (tmp_path / "tuned").exists()
    assert not list(tmp_path.glob(".*"))


def test_places_that_cannot_be_tuned_or_written_to_are_refused(
    talks: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(talks)
    assert tune(talks, pairs, talks) == 2
    assert "is what is tuned, and stays as it is" in capsys.readouterr().err
    assert tune(tmp_path / "nothing", pairs, tmp_path / "tuned") == 2
    assert "nothing does not exist" in capsys.readouterr().err
    assert tune(talks, None, tmp_path / "tuned") == 2
    assert "tuning needs dialogues" in capsys.readouterr().err
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("Dear hen")
    assert tune(talks, pairs, tmp_path / "letters") == 2
    assert "holds other files and is no run" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "letters").iterdir()] == ["mine.txt"]
    assert tune(talks, pairs, pairs) == 2
    assert "is a file; name a folder for --run" in capsys.readouterr().err
    assert files(talks) == before


def test_a_run_goes_on_as_it_began_or_not_at_all(
    talks: Path, stories: Path, pairs: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tmp_path / "tuned"
    assert tune(talks, pairs, tuned, "--lora", "2", "--mix", "before=0.3", f"{pairs}=0.1", steps=2) == 0
    before, same = files(tuned), ["--mix", "before=0.3", f"{pairs}=0.1"]
    for flags, said in [
        ([*same, "--lora", "3"], "adapter.rank = 2, and 3 is asked for"),
        (["--mix", "before=0.2"], "was begun with other corpora"),
        (["--mix", "before=0.3", f"{many}=0.1"], "was begun with other corpora"),
        (["--mix", "none"], "was begun with other corpora"),
        ([*same, "--train.batch-size", "5"], "train.batch_size = "),
        ([*same, "--prepare.val-fraction", "0.2"], "was prepared with val_fraction = 0.0"),
    ]:
        capsys.readouterr()
        assert tune(talks, pairs, tuned, *flags, steps=4) == 2, flags
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert tune(talks, many, tuned, *same, steps=4) == 2
    assert f"is tuned with {pairs}, and {many} is asked for" in capsys.readouterr().err
    assert tune(stories, pairs, tuned, *same, steps=4) == 2
    assert "did not begin with these weights" in capsys.readouterr().err
    assert files(tuned) == before


def test_data_of_another_vocabulary_is_refused(
    talks: Path,
    story_data: Path,
    stories: Path,
    dialogue_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tune(stories, dialogue_data, tmp_path / "tuned") == 2
    assert "was prepared with another vocabulary than" in capsys.readouterr().err
    assert tune(talks, dialogue_data, tmp_path / "tuned", "--mix", f"{story_data}=0.2") == 2
    assert "was prepared with another tokenizer" in capsys.readouterr().err
    assert tune(stories, story_data, tmp_path / "tuned") == 2
    assert "no dialogues to tune with" in capsys.readouterr().err
    assert not (tmp_path / "tuned").exists()


def test_a_full_disk_leaves_the_last_checkpoint(
    talks: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(talks, pairs, tmp_path / "tuned", "--lora", "2", steps=2) == 0
    kept = tensors(tmp_path / "tuned")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_bytes", full)
        assert tune(talks, pairs, tmp_path / "tuned", "--lora", "2", steps=4) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert all(torch.equal(tensor, kept[name]) for name, tensor in tensors(tmp_path / "tuned").items())
    assert tune(talks, pairs, tmp_path / "tuned", "--lora", "2", steps=4) == 0


def test_standard_input_is_read_once(
    talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = io.TextIOWrapper(io.BytesIO(b"User: Who sat there?\nAssistant: A hen.\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", text)
    assert tune(talks, Path("-"), tmp_path / "tuned", steps=2) == 0
    assert "1 dialogue" in capsys.readouterr().err
