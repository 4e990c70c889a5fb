"""What is seen before and while a model trains."""

import io
import re
from dataclasses import replace

import pytest

from linnet.console import size_text
from linnet.evaluate.loss import Evaluation
from linnet.model.config import ModelConfig
from linnet.model.costs import Share, saving_bytes, training_bytes
from linnet.training.display import LiveDisplay
from linnet.training.preflight import preflight, proportion
from linnet.training.recipe import TrainConfig

LONG = "A sample with many words, and a line\nfor each of them. " * 40


def panel(width: int, sample: str) -> list[str]:
    """The lines of a panel in which everything is as long as it can be, on a terminal of `width` columns."""
    from rich.console import Console

    display = LiveDisplay()
    display.live.console = console = Console(width=width, record=True, file=io.StringIO())
    row = {"step": 123_456, "elapsed_s": 40_000.0, "train_loss": 1.234, "tokens_per_s": 123_456.0}
    for number in range(200):
        display.step(row | {"train_loss": 5 - number / 50}, 0.01 + number / 400)
    loss = {"loss": 1.234, "standard_error": 0.123, "perplexity": 3.4, "accuracy": 0.123}
    result = Evaluation(**loss, bits_per_byte=1.234, bits_per_char=1.2, tokens=10, seconds=1.0)
    for number in range(6):
        display.evaluated(123_450 + number, result, number % 2 == 0, 1.234)
    display.sample(sample)
    console.print(display)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_keeps_its_step_and_no_word_is_cut_at_any_width(width: int) -> None:
    lines = panel(width, "A sample with many words.")
    assert not [line for line in lines if len(line) > width]
    shown = [line for line in lines if "1.234 ± 0.123" in line]
    assert [line.split()[1] for line in shown] == ["123,452", "123,453", "123,454", "123,455"]
    assert any("step" in line and "validation" in line for line in lines)
    text = " ".join(line.strip("│ ") for line in lines)
    assert "…" not in text
    for part in ("step 123,456", "tokens/s", "left", "best", "many words."):
        assert part in text.replace("\N{NO-BREAK SPACE}", " ")
    assert ("bits/byte" in text) == (width >= 60)


def test_left_stands_only_beside_a_time_that_is_left() -> None:
    from rich.console import Console

    display = LiveDisplay()
    row = {"step": 10, "elapsed_s": 30.0, "train_loss": 1.234, "tokens_per_s": 1000.0}

    def shown() -> str:
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(display)
        return console.export_text().replace("\N{NO-BREAK SPACE}", " ")

    assert "left" not in shown()
    display.step(row, 0.25)
    assert "about 1 min 30 s left" in shown()
    display.scoring()
    assert "left" not in shown()
    assert "scoring the validation text" in shown()
    display.step(row, 0.0)
    assert "left" not in shown()


def test_no_frame_stays_after_the_end_and_the_evaluations_stand_there_as_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is written is followed as a terminal would: up and clear undo what was drawn."""
    from rich.console import Console

    terminal = io.StringIO()
    display = LiveDisplay()
    display.live.console = Console(file=terminal, force_terminal=True, width=80)
    with display:
        display.step({"step": 10, "elapsed_s": 30.0, "train_loss": 1.2, "tokens_per_s": 1000.0}, 0.25)
        loss = {"loss": 1.234, "standard_error": 0.1, "perplexity": 3.4, "accuracy": 0.123}
        display.evaluated(
            10, Evaluation(**loss, bits_per_byte=1.2, bits_per_char=1.2, tokens=10, seconds=1.0), True, 1.2
        )
        display.tell("stopping")
        display.live.refresh()
        assert "stopping" in terminal.getvalue()  # in the panel, where a line of its own would break it up
    assert not [line for line in screen(terminal.getvalue()) if line.strip()]
    assert "step 10: train 1.200, validation 1.234 ± 0.100 nats/token" in capsys.readouterr().err


def screen(written: str) -> list[str]:
    """The lines of a terminal that got `written`: of its commands, those that rich uses here."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if piece == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif piece.endswith("A") and piece.startswith("\x1b"):
            row -= int(piece[2:-1] or 1)
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith(("\x1b", "\r")):
            lines[row] += piece
    return lines


def test_memory_that_does_not_suffice_is_said_with_what_fits() -> None:
    model, train = ModelConfig(n_layer=1, n_embd=64), TrainConfig(batch_size=64, micro_batch_size=32)
    needed = training_bytes(model, 32)
    assert preflight(model, train, 1000, available_bytes=needed).too_much == ""
    assert preflight(model, train, 1000, available_bytes=None).too_much == ""
    fits = preflight(model, train, 1000, available_bytes=int(training_bytes(model, 8) / 0.8) + 1).lines()
    assert "warning: that is more than the" in fits[1]
    assert "8 windows at a time fit: --train.micro-batch-size 8, which is what --fit takes in a new run" in fits[1]
    assert "the result is the same" in fits[1]
    dropping = preflight(replace(model, dropout=0.1), train, 1000, available_bytes=int(needed / 2)).too_much
    assert "because of dropout the result differs" in dropping
    none = preflight(model, train, 1000, available_bytes=1000).too_much
    assert "not even one window at a time fits: take a smaller recipe" in none


def test_the_panel_fits_into_a_terminal_of_80_columns_and_24_lines() -> None:
    for sample in (LONG, "長い文章 " * 200, "\n" * 100):
        lines = panel(80, sample)
        assert len(lines) <= 20  # the lines before the first step stay in sight
        assert not [line for line in lines if len(line) > 80]


def test_each_evaluation_is_one_line_with_all_its_figures() -> None:
    shown = [line for line in panel(80, "") if "1.234 ± 0.123" in line]
    assert len(shown) == 4
    assert [("best" in line) for line in shown] == [True, False, True, False]
    assert shown[-1].split()[1:-1] == "123,455 1.234 1.234 ± 0.123 1.234 12.3%".split()


def test_the_preflight_says_what_its_memory_is_of() -> None:
    model = ModelConfig(n_layer=1, n_embd=64)
    small, whole = (preflight(model, TrainConfig(batch_size=8, micro_batch_size=size), 1000) for size in (1, None))
    assert "memory to train: about" in small.lines()[0]
    assert "with one window at a time, Python and PyTorch not counted" in small.lines()[0]
    assert "with 8 windows at a time" in whole.lines()[0]
    assert whole.memory_bytes == training_bytes(model, 8) > small.memory_bytes


def test_little_text_is_told_in_parameters_for_each_token() -> None:
    little = preflight(ModelConfig(n_layer=1, n_embd=64), TrainConfig(), 300)
    assert f"{little.parameters / 300:,.0f} parameters for each token of text" in little.lines()[2]
    assert "0.00" not in little.lines()[2]
    assert [proportion(share) for share in (0.0047, 0.12, 0.99, 1.0, 2.34, 1234.6)] == [
        "213 parameters for each token of text",
        "8.3 parameters for each token of text",
        "1 parameter for each token of text",
        "1 token of text for each parameter",
        "2.3 tokens of text for each parameter",
        "1,235 tokens of text for each parameter",
    ]


def test_a_run_that_time_ends_soon_is_not_said_to_read_its_text_often() -> None:
    model, train = ModelConfig(n_layer=2, n_embd=64, n_head=2, block_size=64), TrainConfig(steps=10_000, max_minutes=1)
    often = preflight(model, train, 1000)
    assert often.epochs == 10_000 * 16 * 64 / 1000
    assert any("10,240 times" in line for line in often.lines())
    soon = preflight(model, train, 1000, fitting_steps=3)
    assert soon.epochs == pytest.approx(3 * 16 * 64 / 1000)
    assert not any("advice" in line for line in soon.lines())
    assert any("fit into a minute, or all 10,000" in line for line in soon.lines())


def test_of_several_processes_the_memory_of_each_is_said() -> None:
    model, train = ModelConfig(n_layer=2, n_embd=64), TrainConfig(batch_size=12)
    alone, two, three = (preflight(model, train, 1000, share=Share(count, beside=count)) for count in (1, 2, 3))
    assert "with 12 windows at a time, Python" in alone.lines()[0]
    assert "with 6 windows at a time in each of 2 processes, and" in two.lines()[0]
    assert "with 4 windows at a time in each of 3 processes, and" in three.lines()[0]
    assert alone.memory_bytes > two.memory_bytes > three.memory_bytes
    spread = Share(3, spread=True, beside=3)
    assert preflight(model, train, 1000, share=spread).memory_bytes < three.memory_bytes
    more = saving_bytes(model, share=Share(3))
    together = 3 * three.memory_bytes + more
    assert f"and {size_text(more)} more in the first" in three.lines()[0]
    assert preflight(model, train, 1000, share=Share(3, beside=3), available_bytes=together).too_much == ""
    less = preflight(model, train, 1000, share=Share(3, beside=3), available_bytes=together - 1).too_much
    assert "available to 3 processes together; one window at a time fits: --train.micro" in less
    assert preflight(model, train, 1000, share=Share(3), available_bytes=together // 2).too_much == ""
