"""Pictures of what happens inside a model show the numbers they were given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from linnet.insight import Candidate, Prediction
from linnet.model.config import ModelConfig
from linnet.model.costs import parameter_count
from linnet.plots.diagram import architecture_diagram, architecture_picture
from linnet.plots.figures import LIGHT, png
from linnet.plots.insight import (
    LABELLED,
    ROWS,
    attention_picture,
    next_tokens_picture,
    percent,
    predictions_picture,
    shades,
    whole_percent,
)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels, less time."""
    monkeypatch.setattr("linnet.plots.figures.PNG_DPI", 50)


def maps(L: int, H: int, T: int) -> np.ndarray:
    weights = np.tril(np.random.default_rng(0).random((L, H, T, T)))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def written(figure: Figure) -> list[str]:
    """All texts of a figure."""
    texts = [text for axes in figure.axes for text in [*axes.texts, axes.title]] + list(figure.texts)
    return [text.get_text() for text in texts if text.get_text()]


def candidate(id: int, text: str, probability: float, rank: int) -> Candidate:
    return Candidate(id, text, probability, rank)


def place(read: str, actual: Candidate | None) -> Prediction:
    likeliest = (candidate(1, " upon", 0.7, 1), candidate(2, " there", 0.2, 2), candidate(3, "[$x$]", 0.004, 3))
    return Prediction(read, likeliest, actual)


def test_every_head_has_its_map_in_its_place():
    weights = maps(2, 3, 5)
    figure = attention_picture(weights, ["<|endoftext|>", "Once", " upon", " a", "\n"], "songbird")
    panels = [axes for axes in figure.axes if axes.images]
    for axes, expected in zip(panels, weights.reshape(6, 5, 5), strict=True):
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown.filled(0), expected)
        assert shown.mask.tolist() == (~np.tri(5, dtype=bool)).tolist()  # the hidden future is not drawn as zero
        assert axes.images[0].get_clim() == (0, 1)  # one scale for all
    corners = [axes.get_position().bounds[:2] for axes in panels]
    assert corners[0][0] == corners[3][0] < corners[1][0] < corners[2][0]
    assert corners[0][1] == corners[1][1] > corners[3][1]
    assert figure.get_suptitle() == "songbird · attention of 2 layers × 3 heads"
    assert {"head 1", "head 2", "head 3", "layer 1", "layer 2"} <= set(written(figure))


def test_tokens_stand_beside_the_outer_maps_only():
    tokens = ["<|endoftext|>", "Once", " upon", " a", "\n"]
    panels = attention_picture(maps(2, 2, 5), tokens).axes[:4]
    down = [[label.get_text() for label in axes.get_yticklabels()] for axes in panels]
    across = [[label.get_text() for label in axes.get_xticklabels()] for axes in panels]
    labels = ["<|endoftext|>", "Once", "␣upon", "␣a", "⏎"]
    assert down == [labels, [], labels, []]
    assert across == [[], [], labels, labels]


def test_long_texts_count_positions_instead():
    T = LABELLED + 1
    axes = attention_picture(maps(1, 1, T), ["x"] * T).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "7", "13", "19", "25"]


@pytest.mark.parametrize(("L", "H", "T"), [(1, 1, 1), (1, 1, 2), (2, 4, 24), (3, 14, 8)], ids=str)
def test_nothing_is_drawn_outside_the_picture(L: int, H: int, T: int):
    figure = attention_picture(maps(L, H, T), [" $tok$"] * T, "run")
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    assert width < 30


def test_darker_is_more_also_in_grey():
    colours = shades(LIGHT)(np.linspace(0, 1, 9))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(colours) < -0.01).all()


def test_bars_are_as_long_as_the_probabilities():
    figure = next_tokens_picture(place("Once", None), "The weather $x$ is", "songbird")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([70.0, 20.0, 0.4])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["␣upon", "␣there", "[$x$]"]
    assert axes.yaxis_inverted()
    assert "The weather $x$ is …" in written(figure)
    assert {" 70.0%", " 20.0%", " 0.4%"} <= set(written(figure))
    png(figure)  # dollars are no mathematics


def test_the_table_marks_what_came_among_what_was_expected():
    places = [
        place("<|endoftext|>", candidate(2, " there", 0.2, 2)),
        place(" there", candidate(9, "zebra", 0.00042, 1234)),
        place("zebra", None),
    ]
    figure = predictions_picture(places, "songbird")
    (axes,) = figure.axes
    cells = [to_hex(cell.get_edgecolor()) for cell in axes.patches]
    assert len(cells) == 6  # what follows the end is not known
    assert [edge == LIGHT.val for edge in cells] == [False, True, False, False, False, False]
    assert {"␣there", "20.0%", "2", "zebra", "0.042%", "1,234", "<1%"} <= set(written(figure))
    png(figure)


def test_of_a_long_text_the_table_shows_the_end():
    places = [place("a", candidate(1, f"token{number}", 0.7, 1)) for number in range(ROWS + 5)]
    figure = predictions_picture(places)
    assert "token4" not in written(figure)
    assert {"token5", f"token{ROWS + 4}"} <= set(written(figure))
    assert figure.get_suptitle().endswith(f"the last {ROWS} of {ROWS + 5} tokens")


def test_small_probabilities_are_not_zero():
    assert [percent(share) for share in (1.0, 0.6621, 0.001, 0.00084)] == ["100.0%", "66.2%", "0.1%", "0.084%"]
    assert [whole_percent(share) for share in (1.0, 0.01, 0.0099)] == ["100%", "1%", "<1%"]


MODELS = {
    "default": {},
    "two kinds of blocks": {"value_embeddings": True, "n_layer": 5, "activation": "swiglu", "n_kv_head": 2},
    "post-norm": {"norm": "layernorm", "norm_bias": True, "norm_placement": "post", "position": "learned"}
    | {"qkv_bias": True, "linear_bias": True, "head_bias": True, "embedding_norm": True, "dropout": 0.1},
    "within documents": {"qk_scale": 2.0, "within_documents": True, "tie_embeddings": True},
}


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_the_architecture_is_drawn_as_it_is_written(changes: dict):
    config = ModelConfig(**changes)
    figure = architecture_picture(config, "songbird")
    texts = written(figure)
    lines = architecture_diagram(config)
    names = [word.strip("[]") for line in lines.splitlines() for word in line[:30].split()]
    assert figure.get_suptitle() == f"songbird · a transformer with {parameter_count(config):,} parameters"
    drawn = [text for text in texts if "parameters each" in text or text.startswith("(B")]
    assert drawn
    for text in drawn:
        assert text in lines, text
    for name in ("token_embedding", "qkv_proj", "o_proj", "up_proj", "down_proj", "lm_head", "activation", "softmax"):
        assert texts.count(name) == names.count(name) > 0, name
    assert ("q and k scaled to one length, q × 2" in texts) == (config.qk_scale == 2)
    assert ("of q·k / √32, up to here in its document" in texts) == config.within_documents


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_no_text_of_the_architecture_leaves_its_box(changes: dict):
    figure = architecture_picture(ModelConfig(**changes))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [patch.get_window_extent() for patch in axes.patches]
    for text in axes.texts:
        extent = text.get_window_extent()
        around = [box for box in boxes if box.y0 < (extent.y0 + extent.y1) / 2 < box.y1 and box.x0 < extent.x0 < box.x1]
        assert all(extent.x1 <= box.x1 for box in around), text.get_text()
