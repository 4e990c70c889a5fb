"""Pictures: PNG files that show what the log holds, whatever it lacks."""

import math
import re
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from fake_run import MakeRun, contrast, early_metrics, metrics

from linnet.model.config import ModelConfig
from linnet.model.costs import parameter_count
from linnet.plots import draw_run
from linnet.plots.comparison import COLOURS
from linnet.plots.curves import (
    draw_loss,
    loss_perplexity_curves,
    plain,
    step_label,
    training_curves,
)
from linnet.plots.diagram import WIDTH, after_parts, architecture_diagram, before_parts, block_parameters
from linnet.plots.figures import LIGHT, PAGE, new_figure, png, step_ticks, svg
from linnet.plots.tokenizer import tokenizer_analysis, tokenizer_comparison
from linnet.run.rows import best_row, points
from linnet.run.text import sample_statistics, scripts
from linnet.tokenizers.pieces import visible


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels, less time."""
    monkeypatch.setattr("linnet.plots.figures.PNG_DPI", 50)


PNG = b"\x89PNG\r\n\x1a\n"


def pixels(data: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(BytesIO(data), format="png")


def ink(data: bytes) -> float:
    """Share of the pixels that are not white."""
    return float((pixels(data)[..., :3].min(axis=-1) < 0.95).mean())


def test_all_pictures_of_a_run_are_written(make_run: MakeRun):
    run = make_run()
    written = draw_run(run)
    names = ["loss_perplexity_curves.png", "training_curves.png", "architecture_diagram.txt"]
    names += ["architecture_diagram.png", "tokenizer_analysis.png"]
    assert [path.name for path in written] == names
    assert all(path.parent == run.plots for path in written)
    for path in written:
        if path.suffix == ".png":
            data = path.read_bytes()
            assert data.startswith(PNG)
            assert 0.01 < ink(data) < 0.5, path.name
    assert sorted(path.name for path in run.plots.iterdir()) == sorted(names)  # nothing half-written is left


def test_the_same_log_gives_the_same_bytes():
    def draw() -> bytes:
        figure = new_figure(4, 3, LIGHT, panels=False)
        draw_loss(figure.subplots(), metrics())
        return png(figure)

    assert draw() == draw()


def test_curves_hold_the_values_of_the_log():
    rows = metrics()
    figure = loss_perplexity_curves(rows, "songbird")
    loss, perplexity = figure.axes[:2]
    drawn = {line.get_label(): line for line in loss.get_lines()}
    evaluations = [row for row in rows if row["kind"] == "eval"]
    assert list(drawn["training"].get_ydata()) == [row["train_loss"] for row in rows if row["kind"] == "train"]
    assert list(drawn["validation"].get_ydata()) == [row["val_loss"] for row in evaluations]
    assert list(drawn["validation"].get_xdata()) == [row["step"] for row in evaluations]
    best = min(evaluations, key=lambda row: row["val_loss"])
    assert list(drawn[f"best: {best['val_loss']:.3f} ± 0.020"].get_xdata()) == [best["step"]]
    assert perplexity.get_yscale() == "log"
    assert (loss.get_xscale(), perplexity.get_xscale()) == ("log", "log")
    assert "songbird" in figure.get_suptitle()
    band = loss.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(best["val_loss"] - 0.02)


def test_the_scale_of_steps_says_how_many_tokens_a_step_is():
    loss = loss_perplexity_curves(metrics()).axes[0]
    assert loss.get_xlabel() == "steps of 64 tokens, logarithmic"  # 4 windows of 16 tokens
    assert step_label([{"kind": "train"}]) == "steps, logarithmic"


def test_a_run_that_was_looked_at_early_is_drawn_from_step_0():
    rows = early_metrics()
    loss = loss_perplexity_curves(rows).axes[0]
    drawn = {line.get_label(): line for line in loss.get_lines()}
    assert list(drawn["a part of it"].get_xdata()) == [0, 1, 3, 10, 30, 100, 300]
    assert list(drawn["training"].get_xdata())[:3] == [1, 2, 3]
    assert list(drawn["validation"].get_xdata()) == [150, 300]  # a probe is no evaluation of the whole split
    assert (drawn["best: 1.912 ± 0.020"].get_xdata(), best_row(rows)["kind"]) == ([300], "eval")
    assert [tick for tick in loss.get_xticks() if loss.get_xlim()[0] <= tick] == [0, 1, 3, 10, 30, 100, 300]
    # the first hundredth of the way, where the loss falls most, takes half of the panel
    places = loss.transAxes.inverted().transform(loss.transData.transform([(0, 2), (3, 2), (300, 2)]))[:, 0]
    assert places[1] - places[0] > 0.3 * (places[2] - places[0])


def test_a_short_run_is_points_with_their_values():
    rows = [{"step": 20, "tokens": 40, "train_loss": 5.622}, {"step": 18, "tokens": 36, "val_loss": 4.104}]
    figure = new_figure(4, 3, LIGHT, panels=False)
    axes = figure.subplots()
    draw_loss(axes, rows)
    assert sorted(text.get_text() for text in axes.texts) == ["4.10", "5.62"]
    assert all(line.get_marker() not in ("", "None") for line in axes.get_lines())
    assert list(axes.get_xticks()) == [18, 20]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 300, [0, 1, 3, 10, 30, 100, 300]),
        (20, 1000, [20, 50, 100, 200, 500, 1000]),
        (1, 5000, [1, 10, 100, 1000]),
        (18, 32, [18, 32]),
        (7, 7, [7]),
    ],
)
def test_steps_are_marked_at_round_numbers(first: int, last: int, expected: list[int]):
    assert step_ticks(first, last) == expected


def test_the_rates_of_both_optimisers_are_plain_numbers():
    optim = {"kind": "muon", "lr": 0.003, "matrix_lr": 0.02}
    rows = [{"step": step, "lr": 0.003 * share} for step, share in ((1, 0.01), (50, 1.0), (100, 0.5))]
    rate = training_curves(rows, optim=optim).axes[0]
    rate.figure.draw_without_rendering()
    drawn = {line.get_label(): list(line.get_ydata()) for line in rate.get_lines()}
    assert drawn["AdamW"] == pytest.approx([0.00003, 0.003, 0.0015])
    assert drawn["Muon, matrices"] == pytest.approx([0.0002, 0.02, 0.01])
    assert rate.yaxis.get_offset_text().get_text() == ""
    assert all(re.fullmatch(r"[0-9.]+", label.get_text()) for label in rate.get_yticklabels())
    logged = [{**row, "matrix_lr": 0.5} for row in rows]
    assert list(training_curves(logged, optim=optim).axes[0].get_lines()[1].get_ydata()) == [0.5] * 3
    assert len(training_curves(rows, optim=optim | {"kind": "adamw"}).axes[0].get_lines()) == 1
    assert (plain(0.0003), plain(0.02), plain(0.0)) == ("0.0003", "0.02", "0")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        metrics(100, evaluations=0),
        metrics(100, evaluations=1)[-1:],
        [{"kind": "eval", "step": 1, "tokens": 10, "val_loss": math.nan, "val_perplexity": math.inf}],
        [{"kind": "train"}, {"step": None, "tokens": "many", "train_loss": True}, {}],
        [{"step": 0, "tokens": 0, "train_loss": 3.0, "train_perplexity": 20.1, "lr": 0.0, "grad_norm": 0.0}],
        [{"step": 5, "tokens": 9, "val_loss": 3.0}],
        [{"val_loss": 3.0, "val_standard_error": math.nan}],
    ],
    ids=["nothing", "no evaluation", "one evaluation", "NaN", "wrong types", "step zero", "loss only", "no tokens"],
)
def test_an_incomplete_log_is_drawn(rows: list):
    training_curves(rows, "x")
    data = png(loss_perplexity_curves(rows, "x"))
    assert data.startswith(PNG)
    assert ink(data) > 0.002


def test_values_that_are_no_numbers_are_left_out():
    rows = [{"step": 2, "v": 1.0}, {"step": 1, "v": 3.0}, {"step": 3, "v": math.nan}, {"step": 4}]
    assert points(rows, "v").steps == [1, 2]
    assert points(rows, "v").values == [3.0, 1.0]


def test_the_best_evaluation_is_the_first_of_equals():
    rows = [{"val_loss": 2.0, "step": 1}, {"val_loss": math.nan}, {"val_loss": 1.0, "step": 2}, {"val_loss": 1.0}]
    assert best_row(rows) == rows[2]
    assert best_row(rows[1:2]) is None


def test_a_name_is_drawn_as_it_is():
    png(loss_perplexity_curves([], r"run $\frac{1}$ 中文 🐦 <b>"))  # no mathematics, no warning


def test_svg_stands_in_a_page_and_follows_its_colours():
    figure = new_figure(4, 3, PAGE)
    draw_loss(figure.subplots(), metrics(), PAGE)
    text = svg(figure, "loss", "loss over training")
    assert text.startswith('<svg role="img" aria-label="loss over training"')
    assert "var(--train)" in text
    assert "#0101" not in text
    assert "http" not in text
    assert "<style" not in text
    assert text.count(' id="') == text.count(' id="loss-')


def test_pictures_do_not_touch_global_state():
    code = (
        "import linnet.plots, sys; assert not {'matplotlib', 'jinja2', 'torch', 'numpy'} & set(sys.modules);"
        "from linnet.plots.curves import loss_perplexity_curves as draw; from linnet.plots.figures import png;"
        "png(draw([])); assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


MODELS = [
    {},
    {"n_kv_head": 2, "value_embeddings": True, "n_layer": 5, "activation": "swiglu", "mlp_hidden": 96},
    {"norm": "layernorm", "norm_bias": True, "norm_placement": "post", "position": "learned", "activation": "gelu"}
    | {"qkv_bias": True, "linear_bias": True, "head_bias": True, "embedding_norm": True, "dropout": 0.1},
    {"tie_embeddings": True, "qk_norm": False, "vocab_size": 50_257, "n_embd": 768, "n_head": 12, "n_layer": 12},
    {"head_dim": 48, "qk_gain": True, "n_kv_head": 2, "activation": "swiglu"},
]


@pytest.mark.parametrize("changes", MODELS, ids=["default", "grouped", "post-norm", "tied", "free heads"])
def test_the_parts_of_the_diagram_are_the_whole_model(changes: dict):
    config = ModelConfig(**changes)
    outside = sum(part.parameters for part in [*before_parts(config), *after_parts(config)])
    blocks = sum(block_parameters(config, layer) for layer in range(config.n_layer))
    assert outside + blocks == parameter_count(config)
    text = architecture_diagram(config)
    assert f"{parameter_count(config):,} parameters" in text
    assert f"{block_parameters(config, 0):,} parameters" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    walls = [line for line in text.splitlines() if line.startswith(("│", "┌", "└"))]
    assert {len(line) for line in walls} == {WIDTH}


def test_the_counts_of_the_diagram_are_those_of_the_weights():
    from linnet.model.transformer import Transformer

    config = ModelConfig(n_layer=1, vocab_size=64, block_size=8, n_embd=32, n_head=4, n_kv_head=2)
    lines = architecture_diagram(config).splitlines()
    for name, parameter in Transformer(config).named_parameters():
        part = name.split(".")[-2]
        (line,) = [line for line in lines if f" {part} " in line]
        assert line.rstrip(" │").endswith(f" {parameter.numel():,}"), name


def test_tokenizer_figures_are_those_of_the_validation_text(make_run: MakeRun):
    run = make_run()
    found = sample_statistics(run)
    assert found is not None
    split = run.manifest()["data"]["manifest"]["splits"]["val"]
    assert found["split"] == "val"
    assert found["bytes"] == split["bytes"]
    assert sum(token["count"] for token in found["most_frequent_tokens"]) == found["tokens"]
    assert found["scripts"] == {"LATIN": 1.0}


def test_no_tokenizer_picture_without_the_data(make_run: MakeRun):
    run = make_run()
    manifest = run.manifest_file.read_text().replace('"path": "', '"path": "/nowhere')
    run.manifest_file.write_text(manifest)
    run.metrics_file.unlink()
    assert sample_statistics(run) is None
    names = ["loss_perplexity_curves.png", "architecture_diagram.txt", "architecture_diagram.png"]
    assert [path.name for path in draw_run(run)] == names


def test_tokens_of_any_script_are_drawn():
    tokens = [
        {"id": i, "text": text, "bytes": 9, "count": 3} for i, text in enumerate([" $a^b$", "中文", "\x00\n", "🐦"])
    ]
    facts = {"bytes": 100, "tokens": 12, "bytes_per_token": 8.3, "chars_per_token": 4.0, "vocab_size": 300}
    facts |= {"vocab_used_fraction": 0.1, "token_lengths": {1: 3, 9: 9, 40: 1}, "split": "val"}
    full = {"longest_tokens": tokens, "most_frequent_tokens": tokens}
    assert png(tokenizer_analysis(facts | full)).startswith(PNG)
    empty = {"longest_tokens": [], "most_frequent_tokens": [], "token_lengths": {}, "tokens": 0}
    tokenizer_analysis(facts | empty)
    compared = facts | full | {"unseen_characters": 2}
    assert png(tokenizer_comparison([compared, compared | empty], ["$a^b$", "x" * 60])).startswith(PNG)
    assert visible(" a\n\x00") == "␣a⏎<00>"


def test_scripts_are_shares_of_letters():
    assert scripts(["ab, 12", "жщ"]) == {"CYRILLIC": 0.5, "LATIN": 0.5}
    assert scripts(["123"]) == {}


def test_words_in_the_colours_of_pictures_can_be_read_on_paper():
    for colour in (LIGHT.train, LIGHT.val, LIGHT.other, *COLOURS):  # all of them colour words as well
        assert contrast(colour, LIGHT.paper) > 4.5, colour  # WCAG 2.2, 1.4.3
