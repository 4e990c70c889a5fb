"""`linnet runs`: the figures are those of the runs themselves, the best comes first, damage never hides the others."""

import itertools
import json
import math
import re
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from linnet.__main__ import main
from linnet.compare import Verdict, list_runs, ranked, verdict
from linnet.plots.comparison import DIFFERENT_TEXTS, LINE_HEIGHT, NAMED, comparison, spread
from linnet.run import Run
from linnet.run.summary import Summary, find_runs, summarise
from linnet.verbs.runs import broken, clock_text, draw, letter, letters_of_texts, show

QUICK = (
    "--train.steps 8 --train.eval-interval 4 --train.log-interval 2 --train.compile off --train.sample-tokens 0 "
    "--train.max-minutes None --model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.block-size 32"
).split()


def train(data: Path, run: Path, *flags: str) -> None:
    assert main(["train", "linnet-tiny", "--data", str(data), "--run", str(run), *QUICK, *flags]) == 0


@pytest.fixture(scope="session")
def trained(story_data: Path, dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on stories, of which `deep/fast` learns more, and one on other data."""
    folder = tmp_path_factory.mktemp("compared")
    train(story_data, folder / "slow", "--optim.lr", "0.0001", "--optim.matrix-lr", "0.0001")
    train(story_data, folder / "deep" / "fast", "--train.steps", "16")
    train(dialogue_data, folder / "other")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    assert main(["runs", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_figures_are_those_of_the_run_itself(trained: Path) -> None:
    summary, run = summarise(trained / "slow"), Run.open(trained / "slow")
    state = run.checkpoint("best").state()
    assert summary.parameters == sum(parameter.numel() for parameter in run.load_model().parameters())
    assert (summary.steps, summary.tokens, summary.best_step) == (8, 8 * 12 * 32, state["step"])
    assert summary.val_loss == state["val_loss"]
    split = run.data().split("val")
    targets = len(split.tokens) - 1
    text_bytes = run.data().manifest["splits"]["val"]["bytes"]
    nats_per_byte = state["val_loss"] * targets / text_bytes
    assert summary.bits_per_byte == pytest.approx(nats_per_byte / math.log(2), rel=1e-3)
    assert summary.bits_per_byte_error is not None
    assert summary.bits_per_byte_error / summary.bits_per_byte == pytest.approx(
        summary.val_standard_error / summary.val_loss
    )
    assert summary.state == "finished"


def test_runs_at_any_depth_are_listed_best_first(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = answer(capsys, trained)["runs"]
    bits = [run["bits_per_byte"] for run in runs]
    assert bits == sorted(bits)
    names = [run["name"] for run in runs]
    assert sorted(names) == [str(Path("deep") / "fast"), "other", "slow"]
    assert names.index(str(Path("deep") / "fast")) < names.index("slow")
    assert [run["name"] for run in answer(capsys, trained / "slow")["runs"]] == ["slow"]


def test_damaged_runs_are_named_with_their_reason_and_hide_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("no-manifest", "wrong-config", "binary-log", "nonsense"):
        shutil.copytree(folder / "slow", folder / name)
    (folder / "no-manifest" / "manifest.json").unlink()
    (folder / "wrong-config" / "config.toml").write_text("[model]\nn_embd = 'wide'\n")
    (folder / "binary-log" / "metrics.jsonl").write_bytes(b"\xff\xfe\x00\n")
    for state in (folder / "nonsense" / "checkpoints").glob("*/state.json"):
        state.write_text("[]")
    (folder / "weightless" / "checkpoints").mkdir(parents=True)
    runs = {run["name"]: run for run in answer(capsys, folder)["runs"]}
    damaged = {name for name, run in runs.items() if run["state"] == "damaged"}
    assert damaged == {"no-manifest", "wrong-config", "binary-log", "nonsense", "weightless"}
    assert "manifest.json" in runs["no-manifest"]["problem"]
    assert "model.n_embd" in runs["wrong-config"]["problem"]
    assert main(["runs", str(folder)]) == 0
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    for name in damaged:
        assert f"cannot be read: {name}: " in shown.out
    assert "slow" in shown.out


def test_a_run_tells_whether_it_is_finished(folder: Path) -> None:
    (state,) = (folder / "other" / "checkpoints").glob("step-000008/state.json")
    state.write_text(json.dumps({**json.loads(state.read_text()), "finished": False}))
    shutil.rmtree(folder / "slow" / "checkpoints")
    states = {run.name: run.state for run in list_runs(folder)}
    assert states == {str(Path("deep") / "fast"): "finished", "other": "unfinished", "slow": "no checkpoint"}


def test_the_search_ends_in_a_folder_with_a_link_to_itself(folder: Path) -> None:
    (folder / "deep" / "again").symlink_to(folder, target_is_directory=True)
    (folder / ".hidden").mkdir()
    shutil.copytree(folder / "slow", folder / ".hidden" / "slow")
    assert len(find_runs(folder)) == 3


SCREENS = {
    40: """\

                              bits/
 run                   loss    byte
 ──────────────────────────────────
 sweep/lr=0.05,      2.0631  0.8217
 matrix_lr=0.02
 (data/my-stories)
 mine-small          2.5000  1.0100
 (data/pairs,
 unfinished)

not shown at 40 columns: time, steps,
size, tokens, step of the best loss,
tokens per second; a wider terminal and
--json have them
these runs were validated on different
texts: only losses on the same text can
be compared
""",
    60: """\

                                                   bits/
 run                  size   steps  time    loss    byte
 ───────────────────────────────────────────────────────
 sweep/lr=0.05,      1.18M  12,345  2:54  2.0631  0.8217
 matrix_lr=0.02
 (data/my-stories)
 mine-small          1.18M  12,345  2:54  2.5000  1.0100
 (data/pairs,
 unfinished)

not shown at 60 columns: tokens, step of the best loss,
tokens per second; a wider terminal and --json have them
these runs were validated on different texts: only losses on
the same text can be compared
""",
    80: """\

                                                                 bits/
 run                        size   steps  tokens  time    loss    byte  best at
 ──────────────────────────────────────────────────────────────────────────────
 sweep/lr=0.05,            1.18M  12,345   28.4M  2:54  2.0631  0.8217   12,000
 matrix_lr=0.02
 (data/my-stories)
 mine-small                1.18M  12,345   28.4M  2:54  2.5000  1.0100   12,000
 (data/pairs, unfinished)

not shown at 80 columns: tokens per second; a wider terminal and --json have
them
these runs were validated on different texts: only losses on the same text can
be compared
""",
    120: """\

                                                                     bits/
 run                            size   steps  tokens  time    loss    byte  best at  tok/s  data             state
 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 sweep/lr=0.05,matrix_lr=0.02  1.18M  12,345   28.4M  2:54  2.0631  0.8217   12,000  20.5k  data/my-stories  finished
 mine-small                    1.18M  12,345   28.4M  2:54  2.5000  1.0100   12,000  20.5k  data/pairs       unfinished

these runs were validated on different texts: only losses on the same text can be compared
""",
}
"""`screen` at each width"""


def screen(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `linnet runs` shows of two runs on a terminal of so many columns."""
    common: dict[str, Any] = {"parameters": 1_180_000, "steps": 12_345, "tokens": 28_400_000, "seconds": 174.0}
    common |= {"best_step": 12_000, "tokens_per_s": 20_500.0}
    long = Summary(
        name="sweep/lr=0.05,matrix_lr=0.02",
        path=Path("a"),
        state="finished",
        data="data/my-stories",
        text="t",
        val_loss=2.0631,
        bits_per_byte=0.8217,
        **common,
    )
    short = Summary(
        name="mine-small",
        path=Path("b"),
        state="unfinished",
        data="data/pairs",
        text="u",
        val_loss=2.5,
        bits_per_byte=1.01,
        **common,
    )
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    show([long, short])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines())


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_screen_of_runs_at_every_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = screen(width, monkeypatch, capsys)
    assert shown == SCREENS[width]
    assert max(map(len, shown.splitlines())) <= width
    assert "\n mine-small " in shown  # a name is never pushed out, and a short one never broken
    assert "0.8217" in shown


def test_runs_on_different_texts_are_told_apart_in_the_picture_and_beside_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list_runs(trained)
    letters = letters_of_texts(found)
    assert letters["slow"] == letters[str(Path("deep") / "fast")] != letters["other"]
    assert sorted(set(letters.values())) == ["A", "B"]
    assert letters_of_texts([run for run in found if run.name != "other"]) == {}
    assert (letter(0), letter(25), letter(26)) == ("A", "Z", "AA")
    draw(found, tmp_path / "curves.png", "tokens")
    assert "the curves are of different texts: [A] " in capsys.readouterr().err
    figure = comparison({"low": evaluations(1.0), "high": evaluations(2.0)}, texts={"low": "A", "high": "B"})
    assert [text.get_text()[:8] for text in figure.axes[0].texts] == ["[A] low ", "[B] high"]
    assert figure.get_supxlabel() == DIFFERENT_TEXTS
    assert comparison({"low": evaluations(1.0)}).get_supxlabel() == ""


def test_long_names_are_broken_after_marks() -> None:
    assert broken("sweep/lr=0.05,n_embd=32", 14) == "sweep/lr=0.05,\nn_embd=32"
    assert broken("x" * 25, 10) == "\n".join(["x" * 10, "x" * 10, "x" * 5])
    for name in ("a-b/c,d" * 5, "runs/long one", "y"):
        assert broken(name, 8).replace("\n", "").replace(" ", "") == name.replace(" ", "")
    assert [clock_text(seconds) for seconds in (None, 2.8, 174, 3723)] == ["", "0:03", "2:54", "1:02:03"]


def scored(name: str, bits: float | None, error: float = 0.01, text: str = "t", loss: float | None = 2.0) -> Summary:
    return Summary(
        name=name,
        path=Path(name),
        state="finished",
        text=text,
        val_loss=loss,
        val_standard_error=error,
        bits_per_byte=bits,
        bits_per_byte_error=error,
    )


def test_those_without_bits_or_loss_come_last() -> None:
    lost = Summary(name="lost", path=Path("lost"), state="damaged", problem="gone")
    given = [
        lost,
        scored("never", None, loss=None),
        scored("answers", None),
        scored("second", 1.2),
        scored("first", 1.1),
    ]
    assert [run.name for run in ranked(given)] == ["first", "second", "answers", "never", "lost"]


@pytest.mark.parametrize(("second", "tied"), [(1.109, True), (1.111, False)])
def test_a_lead_within_one_standard_error_is_no_lead(second: float, tied: bool) -> None:
    found = verdict([scored("a", 1.1, 0.002), scored("b", second, 0.01)])
    assert isinstance(found, Verdict)
    assert found.tied is tied
    assert ("not certain" in str(found)) is tied


def test_there_is_no_verdict_on_different_texts_or_without_errors() -> None:
    assert verdict([scored("a", 1.1)]) is None
    assert verdict([scored("a", 1.1, text="t"), scored("b", 1.2, text="u")]) is None
    in_nats = verdict([scored("a", None, loss=2.0), scored("b", None, loss=2.5)])
    assert in_nats is not None
    assert in_nats.unit == "nats/token"


def test_the_difference_of_two_runs_is_the_flags_that_differed(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, trained, "--diff", "slow", "deep/fast")["differences"]
    assert found == {"optim.lr": [0.0001, 0.05], "optim.matrix_lr": [0.0001, 0.02], "train.steps": [8, 16]}
    assert answer(capsys, trained, "--diff", "slow", trained / "slow")["differences"] == {}
    assert main(["runs", str(trained), "--diff", "slow", "deep/fast"]) == 0
    out = capsys.readouterr().out
    assert "optim.matrix_lr" in out
    assert f"{summarise(trained / 'slow').bits_per_byte:.4f}" in out


def test_wrong_questions_get_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for words, said in [
        (("absent",), "no folder"),
        ((str(tmp_path / "empty"),), "no run below"),
        ((str(trained), "--diff", "slow", "othr"), "did you mean 'other'?"),
        ((str(trained), "--plot", "curves.jpg"), ".png"),
    ]:
        assert main(["runs", *words]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("against", ["time", "tokens"])
def test_the_picture_is_a_png_of_readable_size(
    trained: Path, tmp_path: Path, against: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "curves.png"
    assert main(["runs", str(trained), "--plot", str(file), "--against", against]) == 0
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 1200
    assert height >= 600


def evaluations(level: float) -> list[dict[str, float]]:
    return [{"elapsed_s": 10.0 * n, "tokens": 100.0 * n, "val_bits_per_byte": level + 1 / n} for n in range(1, 5)]


def test_every_curve_holds_its_evaluations_and_is_named_at_its_end() -> None:
    figure = comparison({"low": evaluations(1.0), "high": evaluations(2.0)}, "tokens")
    (axes,) = figure.axes
    drawn = [list(zip(*line.get_data(), strict=True)) for line in axes.lines if len(line.get_data()[0]) > 1]
    assert drawn[0] == [(row["tokens"], row["val_bits_per_byte"]) for row in evaluations(1.0)]
    names = {text.get_text().split()[0]: text for text in axes.texts}
    assert names.keys() == {"low", "high"}
    assert names["low"].xy == (400.0, 1.25)
    assert names["high"].xyann[1] > names["low"].xyann[1]
    assert names["low"].get_color() != names["high"].get_color()


def test_more_runs_than_colours_stay_readable() -> None:
    figure = comparison({f"run {n}": evaluations(1 + 0.001 * n) for n in range(NAMED + 3)})
    (axes,) = figure.axes
    assert len(axes.texts) == NAMED
    places = sorted(text.xyann[1] for text in axes.texts)
    assert min(b - a for a, b in itertools.pairwise(places)) >= LINE_HEIGHT - 1e-9
    assert places[0] >= 0
    assert places[-1] <= 1


def test_names_that_do_not_touch_stay_where_their_curves_end() -> None:
    assert spread({0: 0.2, 1: 0.8}, 0.1) == pytest.approx({0: 0.2, 1: 0.8})
    assert spread({0: 0.5, 1: 0.5}, 0.1) == pytest.approx({0: 0.45, 1: 0.55})
    assert spread({0: 0.0, 1: 0.02, 2: 0.9}, 0.1) == pytest.approx({0: 0.0, 1: 0.1, 2: 0.9})
