"""`linnet inspect` says and draws what the model expects."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import linnet
from linnet.__main__ import main
from linnet.files import sha256, write_json
from linnet.insight import next_tokens
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.model.weights import weights_of
from linnet.plots import insight as pictures
from linnet.run import Run
from linnet.settings import dumps
from linnet.tokenizers import BPETokenizer
from linnet.training.recipe import Config

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints of random weights."""
    from safetensors.torch import save_file

    found = Run(tmp_path_factory.mktemp("runs") / "songbird")
    tokenizer = BPETokenizer.train(["the bird sang and the bird flew"] * 3, vocab_size=270)
    model = ModelConfig(vocab_size=tokenizer.vocab_size, block_size=32, n_layer=2, n_head=2, n_embd=16, init="gpt2")
    found.path.mkdir()
    tokenizer.save(found.path / "tokenizer.json")
    write_json(found.manifest_file, {"version": 1, "tokenizer": tokenizer.fingerprint(), "data": {"path": "gone"}})
    found.config_file.write_text(dumps(Config(model=model)), encoding="utf-8")
    for step, loss in ((1, 5.0), (2, 6.0)):
        folder = found.path / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        torch.manual_seed(step)
        built = Transformer(model)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.normal_(0.0, 0.4)
        save_file(weights_of(built), folder / "model.safetensors")
        write_json(folder / "state.json", {"val_loss": loss})
        write_json(folder / "manifest.json", {"sha256": {"model.safetensors": sha256(folder / "model.safetensors")}})
    return found.path


@pytest.fixture
def inspect(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Calls the verb; returns exit code, standard output and standard error."""
    monkeypatch.setattr("linnet.plots.figures.PNG_DPI", 50)

    def call(*flags: object) -> tuple[int, str, str]:
        code = main(["inspect", str(run), "--device", "cpu", *map(str, flags)])
        return code, *capsys.readouterr()

    return call


def test_a_prompt_shows_what_may_come_next(inspect, run):
    code, out, err = inspect("--prompt", "the bird", "--next-tokens", 3, "--json")
    assert code == 0, err
    found = json.loads(out)
    lm = linnet.load(run, device="cpu")
    assert [(one["text"], one["probability"]) for one in found["next"]] == lm.next_tokens("the bird", 3)
    assert "".join(found["tokens"]) == "the bird"
    assert found["ids"] == lm.tokenizer.encode("the bird")
    assert found["files"] == []


def test_a_text_shows_how_likely_each_token_was(inspect, run):
    code, out, err = inspect("--text", "the bird sang", "--top", 2, "--checkpoint", "last", "--json")
    assert code == 0, err
    found = json.loads(out)
    lm = linnet.load(run, checkpoint="last", device="cpu")
    places = next_tokens(lm.model, lm.tokenizer, "the bird sang", 2)
    assert "".join(place["text"] for place in found["predictions"]) == "the bird sang"
    assert [place["rank"] for place in found["predictions"]] == [place.actual.rank for place in places[:-1]]
    assert [[one["id"] for one in place["likeliest"]] for place in found["predictions"]] == [
        [one.id for one in place.likeliest] for place in places[:-1]
    ]
    assert [one["id"] for one in found["next"]] == [one.id for one in places[-1].likeliest]


def test_checkpoints_expect_different_things(inspect):
    best, last = (inspect("--prompt", "the", "--checkpoint", which, "--json")[1] for which in ("best", "last"))
    assert json.loads(best)["next"] != json.loads(last)["next"]


def test_tables_show_tokens_as_they_are(inspect):
    code, out, err = inspect("--text", "[red]bird\n[/red]")
    assert code == 0, err
    came = [line.split()[0] for line in out.splitlines() if line.strip()]
    for token in ("[", "]", "/", "⏎"):  # brackets are no markup
        assert token in came
    assert "what comes next" in out
    assert "…" not in out


def test_a_token_that_looks_like_markup_is_shown(inspect, monkeypatch):
    monkeypatch.setattr(BPETokenizer, "piece", lambda *_: "[/red]")
    for flag in ("--prompt", "--text"):
        code, out, err = inspect(flag, "bird")
        assert code == 0, err
        assert out.count("[/red]") >= 4


def test_pictures_are_drawn_where_asked(inspect, tmp_path):
    heads, table, bars = tmp_path / "new" / "heads.png", tmp_path / "table.PNG", tmp_path / "bars.png"
    code, _, err = inspect("--text", "the bird sang", "--attention", heads, "--picture", table)
    assert code == 0
    assert err.splitlines() == [f"drawn: {table}", f"drawn: {heads}"]
    code, out, _ = inspect("--prompt", "the bird", "--picture", bars, "--json")
    assert code == 0
    assert json.loads(out)["files"] == [str(bars)]
    assert all(path.read_bytes().startswith(PNG) for path in (heads, table, bars))


def test_of_a_long_prompt_the_end_is_looked_at(inspect, run, tmp_path):
    prompt = "the bird sang and flew and sang and flew and sang and flew"
    code, out, err = inspect("--prompt", prompt, "--attention", tmp_path / "heads.png", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["ids"]) > 32
    expected = linnet.load(run, device="cpu").next_tokens(prompt)
    assert [one["text"] for one in found["next"]] == [text for text, _ in expected]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "give either --prompt (what comes next?) or --text"),
        (("--prompt", "a", "--text", "b"), "give either --prompt"),
        (("--text", ""), "--text is empty"),
        (("--prompt", "a", "--next-tokens", "0"), "--next-tokens must be at least 1, got 0"),
        (("--prompt", "a", "--attention", "heads.jpg"), "--attention draws a .png file, got heads.jpg"),
        (("--prompt", "a", "--picture", "table"), "--picture draws a .png file, got table"),
        (("--text", "xyz" * 20), "reads 32 at once"),
        (("--prompt", "a", "--checkpoint", "7"), "no checkpoint '7'"),
        (("--prompt", "a", "--attention", "a.png", "--layer", "3"), "--layer is 1 to 2 in this model, got 3"),
        (("--prompt", "a", "--attention", "a.png", "--head", "0"), "--head is 1 to 2 in this model, got 0"),
        (("--prompt", "a", "--head", "1"), "--head chooses what --attention draws"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line(inspect, flags, said):
    code, out, err = inspect(*flags)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_leading_spaces_and_halves_of_characters_are_visible(inspect):
    code, out, err = inspect("--prompt", "the bird €")
    assert code == 0, err
    assert out.splitlines()[0] == "tokens: the | ␣bird | ␣ | <E2> | <82> | <AC>"


def test_candidates_under_one_per_cent_share_a_line(inspect, run):
    lm = linnet.load(run, device="cpu")
    shares = [share for _, share in lm.next_tokens("the", 270)]
    named = [share for share in shares if share >= 0.01]
    assert len(named) < 40
    code, out, err = inspect("--prompt", "the", "--next-tokens", 40)
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()[1:] if "%" in line]
    assert len(lines) == max(1, len(named)) + 1
    assert lines[-1][:2] == [str(270 - len(lines) + 1), "others"]
    assert float(lines[-1][2].rstrip("%")) == pytest.approx(100 * (1 - sum(shares[: len(lines) - 1])), abs=0.02)
    assert "each under 1%" in out


def test_the_cut_beginning_of_a_prompt_is_said(inspect):
    err = inspect("--prompt", "xyz" * 20)[2]
    assert err == "note: the prompt is 61 tokens long and the model reads 32 at once: it sees only the last 29\n"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_tables_fit_the_screen(inspect, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, err = inspect("--text", "the bird sang €")
    assert code == 0, err
    assert all(len(line) <= width for line in out.splitlines())
    assert ("rank" in out) == (width >= 60)
    assert "…" not in out


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    """Which attention pictures are drawn, and of what."""
    found = []
    for name in ("attention_picture", "last_row_picture"):
        whole = getattr(pictures, name)
        monkeypatch.setattr(pictures, name, lambda *a, _w=whole, _n=name, **k: found.append((_n, k)) or _w(*a, **k))
    return found


def test_layer_and_head_choose_a_map_and_of_a_long_text_the_last_row_is_drawn(inspect, drawn, monkeypatch, tmp_path):
    file = tmp_path / "heads.png"
    assert inspect("--text", "the bird", "--attention", file, "--layer", 2, "--head", 1)[0] == 0
    assert drawn.pop() == ("attention_picture", {"layer": 2, "head": 1})
    monkeypatch.setattr(pictures, "LONG", 3)
    code, _, err = inspect("--text", "the bird sang", "--attention", file)
    assert code == 0
    assert drawn.pop()[0] == "last_row_picture"
    assert "the picture shows where the last of them looks; --layer and --head choose maps" in err
    assert inspect("--text", "the bird sang", "--attention", file, "--layer", 1)[0] == 0
    assert drawn.pop() == ("attention_picture", {"layer": 1, "head": None})


def test_pictures_of_one_map_and_of_the_last_row_hold_their_numbers():
    maps = np.tril(np.random.default_rng(0).random((2, 3, 30, 30))).astype(np.float32)
    (axes, _) = pictures.attention_picture(maps, [" a"] * 30, layer=2, head=3).axes
    np.testing.assert_array_equal(axes.images[0].get_array().filled(0), maps[1, 2])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["␣a"] * 30  # one map has room for them
    (axes, _) = pictures.last_row_picture(maps, [" a"] * 30).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), maps[:, :, -1].reshape(6, 30))
