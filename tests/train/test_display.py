"""What is seen before and while a model trains."""

import io

from linnet.evaluate.loss import Evaluation
from linnet.model.config import ModelConfig, training_bytes
from linnet.train.config import TrainConfig
from linnet.train.display import LiveDisplay
from linnet.train.preflight import preflight, proportion

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
    console.print(display._panel())
    return console.export_text().splitlines()


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
