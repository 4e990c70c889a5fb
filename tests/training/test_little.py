"""Little text: what its model begins with, how it is read, and what is foretold of it."""

from dataclasses import astuple, replace
from pathlib import Path

import pytest

from linnet.__main__ import main
from linnet.errors import UserError
from linnet.evaluate.ngram import NGram
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.training import base, dial, forecast, little
from linnet.training.preflight import preflight
from linnet.training.recipe import Config, TrainConfig
from linnet.training.stop import Interrupted

ENGLISH = "".join(f"The {n} hens of farm {n % 13} sat on wall {n % 7}, and {n * n} geese came.\n" for n in range(120))
RUSSIAN = "".join(f"Солнце {n} светило над горой, и дети играли в саду.\n" for n in range(120))


@pytest.fixture
def small_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    """A base of a few steps, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(base, "prose", lambda: ["Python is a language that people read with ease. " * 9])
    base._prose_sha256.cache_clear()
    full = base.base_config()
    small = replace(
        full,
        prepare=replace(full.prepare, builtin_documents=60, val_fraction=0.2),
        model=replace(full.model, n_layer=1, n_head=2, n_embd=16, block_size=32),
        train=replace(full.train, steps=8, batch_size=2, eval_interval=4),
    )
    monkeypatch.setattr(little, "base_config", lambda: small)
    monkeypatch.setattr(dial, "LEAST_MINUTES", 0.01)
    return small


def test_a_regime_between_two_sizes_lies_between_theirs() -> None:
    for points, begun in ((little.BEGUN, True), (little.FRESH, False)):
        (low, a), (high, b), *_ = points
        assert little.regime(low, begun=begun) == a
        assert little.regime(1, begun=begun) == a, "smaller texts are learned as the smallest that was tried"
        assert astuple(little.regime((low * high) ** 0.5, begun=begun)) == pytest.approx(
            [(x + y) / 2 for x, y in zip(astuple(a), astuple(b), strict=True)]
        )
        assert little.regime(10**9, begun=begun) == points[-1][1]


def test_what_holds_rote_back_is_as_strong_as_the_text_is_read_often() -> None:
    rule = little.Regime(11, 0.4, 0.2, 1.0, 0.01, 0.02, 0.3)
    once, half, often = (little.regulated(Config(), rule, readings) for readings in (0.5, 6, 30))
    assert (once.model.dropout, once.train.noise, once.optim.weight_decay) == (0, 0, 0)
    assert (half.model.dropout, half.train.noise, half.optim.weight_decay) == (0.2, 0.1, 0.5)
    assert (often.model.dropout, often.train.noise, often.optim.weight_decay) == (0.4, 0.2, 1.0)


def test_a_text_of_a_page_gets_windows_that_it_can_fill() -> None:
    config = replace(Config(), model=replace(Config().model, block_size=128))
    assert little.fitting_window(config, 513).model.block_size == 128
    assert little.fitting_window(config, 512).model.block_size == 64
    assert little.fitting_window(config, 33).model.block_size == 8
    with pytest.raises(UserError, match="give at least 33"):
        little.fitting_window(config, 32)


def test_a_stop_while_the_base_is_made_is_a_sentence_and_keeps_nothing_of_it(
    small_base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from linnet.training import pretrain

    def stopped(*given: object, **options: object) -> None:
        raise Interrupted(15, "everything is saved in a folder that goes with the base")

    monkeypatch.setattr(pretrain, "train", stopped)
    (tmp_path / "own.txt").write_text(ENGLISH)
    words = ["train", "--minutes", "1", "--data", str(tmp_path / "own.txt"), "--run", str(tmp_path / "run")]
    assert main(words) == 143
    said = capsys.readouterr().err
    assert "the base was not whole, so nothing of it is kept; the same command begins again" in said
    assert "everything is saved" not in said
    assert base.find_base(small_base) is None


@pytest.mark.pictures
def test_the_base_is_made_once_and_the_run_says_that_it_began_with_it(
    small_base: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text(ENGLISH)
    words = ["train", "--minutes", "0.4", "--data", str(tmp_path / "own.txt"), "--train.sample-tokens", "5"]
    assert main([*words, "--run", str(tmp_path / "one")]) == 0
    first = capsys.readouterr().err
    assert main([*words, "--run", str(tmp_path / "two"), "--train.steps", "3"]) == 0
    second = capsys.readouterr().err
    assert "making the base that models of little text begin with, once" in first
    assert "making the base" not in second
    found = base.find_base(small_base)
    assert found is not None
    for name in ("one", "two"):
        manifest = Run(tmp_path / name).manifest()
        assert manifest["from"]["run"] == found.path.name
        assert manifest["from"]["sources"][-1] == "prose.jsonl"
        assert Run(tmp_path / name).model_config().n_embd == 16
    assert Run(tmp_path / "one").manifest()["expected"]["bits_per_byte"] > 0
    assert "what that is worth: " in first
    assert "twice the text" in first
    assert (tmp_path / "one" / "report.html").exists()


def test_learning_by_heart_is_foretold_only_where_nothing_stands_against_it() -> None:
    model, often = ModelConfig(n_embd=128, dropout=0.3), TrainConfig(steps=1000, noise=0.1)
    held = preflight(model, often, 5000, weight_decay=0.5).lines()[-1]
    assert held.endswith(
        "against learning it by heart stand dropout 0.3, noise 0.1, weight decay 0.5, and the best weights are kept"
    )
    free = preflight(replace(model, dropout=0.0), replace(often, noise=0.0), 5000).lines()[-1]
    assert "it will learn it by heart" in free


def test_a_text_in_another_script_begins_with_nothing(
    small_base: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text(RUSSIAN, encoding="utf-8")
    words = ["train", "--minutes", "0.3", "--data", str(tmp_path / "own.txt"), "--run", str(tmp_path / "run")]
    assert main([*words, "--train.steps", "3", "--train.sample-tokens", "0"]) == 0
    assert "a script that the base does not know" in capsys.readouterr().err
    assert "from" not in Run(tmp_path / "run").manifest()
    assert base.find_base(small_base) is None
    assert Run(tmp_path / "run").tokenizer().encode("Солнце") != []


def test_standard_input_is_little_text_too(
    small_base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text(ENGLISH)
    with open(tmp_path / "own.txt") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        words = ["train", "--minutes", "0.3", "--data", "-", "--run", str(tmp_path / "run"), "--train.steps", "3"]
        assert main([*words, "--train.sample-tokens", "0", "--use-all"]) == 0
    said = capsys.readouterr().err
    assert "nothing is held out" in said
    assert Run(tmp_path / "run").data().splits == ("train",)
    assert Run(tmp_path / "run").manifest()["from"]["run"].startswith("linnet-base-")


def test_all_of_prepared_data_cannot_be_used(story_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--minutes", "1", "--data", str(story_data), "--use-all"]) == 2
    assert "was prepared with a part held out" in capsys.readouterr().err


def test_preparing_that_eats_the_time_leaves_a_model_all_the_same(
    small_base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from linnet.verbs import train

    (tmp_path / "own.txt").write_text(ENGLISH)
    monkeypatch.setattr(train, "LAST_SECONDS", 1000.0)
    words = ["train", "--minutes", "0.5", "--data", str(tmp_path / "own.txt"), "--run", str(tmp_path / "run")]
    assert main([*words, "--train.sample-tokens", "0"]) == 0
    assert "so that there is a model" in capsys.readouterr().err
    assert Run(tmp_path / "run").checkpoint("best").step > 0


def test_repeats_are_taken_away_from_what_a_text_holds() -> None:
    once = ENGLISH.encode()[:2000]
    assert forecast.distinct_bytes(b"short") == 5
    assert forecast.distinct_bytes(bytes(range(256))) == 256
    own = forecast.distinct_bytes(once)
    # the borders bring some new stretches, but no more than a stretch's length at each
    assert own <= forecast.distinct_bytes(once * 3) <= own + forecast.REPEATED


def test_a_text_is_held_out_in_parts_and_counted_by_the_rest() -> None:
    text = ENGLISH.encode()
    whole, half = forecast.cross_counted(text)
    length, bits = len(text) // 20, 0.0
    for fold in range(forecast.FOLDS):
        start = (2 * fold + 1) * len(text) // 10 - length // 2
        bits += NGram.fit(text[:start] + text[start + length :]).bits(text[start : start + length])
    end = NGram.fit(text[:-length]).bits(text[-length:])
    assert whole == pytest.approx((bits / forecast.FOLDS + end) / length / 2)
    assert whole < half
    found = forecast.Forecast(1000, 700, 2.0, 2.2)
    assert found.doubling == pytest.approx(0.17)
    assert "repeats 30% word for word" in found.lines()[0]
    assert "about 0.17 bits less" in found.lines()[1]
