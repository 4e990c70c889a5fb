"""docs/seeds.md is true: its commands run, its figures are those of the results, and the tests it names exist."""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from shared_texts import shared_data

import linnet.plots
from linnet import corpus
from linnet.__main__ import main
from linnet.errors import UserError
from linnet.run import Run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")

SMALLER = (
    "--train.steps 6 --train.eval-interval 6 --train.batch-size 4 --train.micro-batch-size 2 --train.compile off "
    "--train.sample-tokens 4 --model.n-layer 1 --model.n-head 2 --model.n-embd 32 --model.block-size 32"
)
"""added to each training"""

TYPED = "Hello!\nWhat is your name?\n"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    part = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in cells]


def commands() -> list[str]:
    """Those of the table, in its order; the notebook's row is a link."""
    return [row[2].strip("`") for row in rows("Their commands and ours") if row[2].startswith("`")]


def offline_commands() -> list[str]:
    """Those that show where a vocabulary's folder and a shorter warmup belong."""
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(block).strip().splitlines()


def python_of_the_page() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the texts that the commands name, made up here."""
    folder = tmp_path_factory.mktemp("seeds")
    stories = [story.text for story in islice(corpus.stories(0), 130)]
    (folder / "tinystories.txt").write_text("\n<|endoftext|>\n".join(stories), encoding="utf-8")
    (folder / "tinyshakespeare.txt").write_text("\n\n".join(stories), encoding="utf-8")
    pairs = [f"What is {n} plus one?,It is {n + 1}." for n in range(200)]
    (folder / "chat_pairs.csv").write_text("question,answer\n" + "\n".join(pairs) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network; the lab is told to serve, but does not; and only the first run is drawn, which takes longest."""

    def unreachable() -> None:
        raise UserError("the hub is not asked in tests")

    monkeypatch.setattr("linnet.tokenizers.hub.gpt2_from_hub", unreachable)
    monkeypatch.setattr("linnet.lab.server.check_streamlit", lambda: None)
    monkeypatch.setattr("linnet.lab.server.serve", lambda runs, port, browser: print(runs, port))
    draw_run = linnet.plots.draw_run
    monkeypatch.setattr("linnet.plots.draw_run", lambda run: draw_run(run) if run.path.name == "synapse" else [])


@pytest.mark.usefixtures("_nothing_from_outside")
@pytest.mark.pictures
def test_every_command_of_ours(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert len(commands()) == 21
    for command in commands():
        program, *argv = shlex.split(command)
        assert program == "linnet", command
        argv += shlex.split(SMALLER) if argv[0] == "train" else []
        argv += ["--port", "0"] if argv[0] == "lab" else []
        argv += ["--max-new-tokens", "8"] if argv[0] in ("generate", "chat") else []
        monkeypatch.setattr("sys.stdin", io.StringIO(TYPED))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main(argv) == 0, command
        assert out.getvalue().strip(), f"{command} shows nothing"
    for file in ("loss_perplexity_curves.png", "tokenizer_analysis.png", "architecture_diagram.txt"):
        assert (place / "runs" / "synapse" / "plots" / file).exists()
    header = (place / "runs" / "synapse" / "training_log.csv").read_text().splitlines()[0]
    assert {"step", "train_loss", "val_loss", "train_perplexity", "val_perplexity"} <= set(header.split(","))


@pytest.mark.usefixtures("_nothing_from_outside")
def test_a_vocabulary_from_a_folder_and_a_warmup_for_minutes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "gpt2-files").mkdir()
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(shared_data("gpt2") / file, place / "gpt2-files")
    prepare, train = (shlex.split(command)[1:] for command in offline_commands())
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(prepare) == 0
        assert main([*train, *shlex.split(SMALLER)]) == 0
    run = Run.open("runs/slm-nano-short")
    assert run.config()["schedule"]["warmup_steps"] == 20
    assert run.tokenizer().vocab_size == 50257


@pytest.mark.usefixtures("_nothing_from_outside")
def test_the_python_of_the_page(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs after the commands, on the model that they made; its own model is the real slm-small."""
    from linnet.settings import from_dict, read_toml, recipe_path
    from linnet.training.recipe import Config

    monkeypatch.chdir(place)
    if not (place / "runs" / "slm-small").exists():
        prepared = ["train", "slm-small", "--data", "tinystories.txt", "--run", "runs/slm-small"]
        assert main([*prepared, *shlex.split(SMALLER)]) == 0
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(python_of_the_page(), "docs/seeds.md", "exec"), names)  # the page is this project's own
    assert out.getvalue().count("\n") >= 2
    assert names["config"] == from_dict(Config, read_toml(recipe_path("slm-small")), Config()).model
    assert sum(parameter.numel() for parameter in names["model"].parameters()) == 29_996_160


def test_every_command_of_the_documents_stands_in_the_table() -> None:
    theirs = " ".join(row[1] for row in rows("Their commands and ours"))
    for command in (
        "python prepare_data.py",
        "python train_llm.py",
        "python train_with_logging.py",
        "python test_llm.py",
        "python visualize_training.py",
        "python train.py",
        "streamlit run app.py",
        "python data/prepare.py",
        'python generate.py --prompt "One day, a little cat named" --num_samples 3',
    ):
        assert f"`{command}`" in theirs


@pytest.fixture(scope="module")
def seeds() -> Iterator[ModuleType]:
    """The script benchmarks/seeds.py as a module."""
    sys.path.insert(0, str(ROOT / "benchmarks"))  # as it is for a script
    spec = importlib.util.spec_from_file_location("benchmark_seeds", ROOT / "benchmarks" / "seeds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path.remove(str(ROOT / "benchmarks"))


def test_the_figures_of_the_page_are_those_that_were_measured(seeds: ModuleType) -> None:
    results = seeds.kept(seeds.RESULTS)
    assert seeds.filled(PAGE, results, list(seeds.BUDGETS)) == PAGE, "run `python benchmarks/seeds.py --write-docs`"


def figures(name: str) -> dict[str, Any]:
    """As if `name` had been measured."""
    losses = dict.fromkeys(("start_loss", "train_loss", "val_loss", "val_bits_per_char"), 1.2345)
    counts = dict.fromkeys(("steps", "vocab_size", "val_tokens", "val_documents", "context_words"), 1234)
    sizes = dict.fromkeys(("start_perplexity", "val_perplexity", "tokens_per_s", "full_context_ms", "cached_ms"), 56.78)
    return {
        **losses,
        **counts,
        **sizes,
        "seconds": 600,
        "loss_at_1000": None,
        "val_accuracy": 0.673,
        "val_documents_in_train": 0,
        "chars_per_token": 3.21,
        "peak_memory_bytes": 2_000_000_000,
        "fused_attention_speedup": 2.5,
        "replies": [["Hello", "Hi | <b>\n"]],
        "next_tokens": [["a", [["|", 0.5]]]] * 3,
        "settings": {"text": f"{name}.txt", "batch_size": 4, "micro_batch_size": None, "threads": 1},
        "date": "2026-01-02",
    }


def test_measured_figures_fill_every_place_of_the_page_and_nothing_else_changes(seeds: ModuleType) -> None:
    nothing = seeds.filled(PAGE, {"recipes": {}}, list(seeds.BUDGETS))
    machine = {"machine": {"processor": "a processor", "cores": 2}, "versions": {"torch": "2"}}
    full = seeds.filled(
        PAGE, {"recipes": {name: figures(name) for name in seeds.BUDGETS}, **machine}, list(seeds.BUDGETS)
    )
    assert "not measured yet" in nothing
    assert "not measured yet" not in full
    for name in seeds.BUDGETS:
        assert f"| `{name}` | {name}.txt, 1,234 ids | 4 (4) x " in full
    for text in ("1.234", "67.3%", "2.00 GB", "2.5 times", "0 of 1,234", "fewer steps were taken", "“Hi \\| &lt;b>”"):
        assert text in full
    assert seeds.filled(full, {"recipes": {}}, list(seeds.BUDGETS)) == nothing
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in full.splitlines() if "<!--synapse:" in line}
    assert widths == {7}


def test_a_marker_without_a_figure_is_noticed(seeds: ModuleType) -> None:
    measured = {"recipes": {"synapse": figures("synapse")}, "machine": {"processor": "", "cores": 1}}
    for marker in ("<!--synapse:speed_of_light-->x<!--/-->", "<!--no-recipe:val_loss-->x<!--/-->"):
        with pytest.raises(KeyError):
            seeds.filled(marker, measured, list(seeds.BUDGETS))


def test_a_measurement_with_the_same_settings_is_kept(
    seeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []

    def measure(name: str, settings: dict[str, Any], texts: Path | None, folder: Path) -> dict[str, Any]:
        measured.append(name)
        folder.mkdir(parents=True)
        if name == "slm-nano":
            raise OSError("no room")
        return {"settings": settings}

    monkeypatch.setattr(seeds, "measure", measure)
    words = ["seeds.py", "--results", str(tmp_path / "results" / "seeds.json"), "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [*words, "--only", "slm-nano", "synapse"])
    assert seeds.main() == 1  # one failed, the other was measured all the same
    assert "not measured: slm-nano" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*words, "--only", "synapse"])
    assert seeds.main() == 0
    assert measured == ["slm-nano", "synapse"]
    monkeypatch.setattr("sys.argv", [*words, "--only", "synapse", "--minutes", "1"])
    (tmp_path / "work" / "slm-nano").rmdir()
    assert seeds.main() == 0
    assert measured == ["slm-nano", "synapse", "synapse"]


def test_the_page_begins_with_a_summary_and_names_what_is_not_kept() -> None:
    assert PAGE.split("\n")[2].startswith("**In short.**")
    for words in ("Python 3.11 or newer", "--tokenizer FOLDER", "--schedule.warmup-steps 20", "The girl found a key"):
        assert words in PAGE
    missing = rows("Promises that are not kept")
    assert {document[:3] for document, _, _ in missing} >= {"000", "002", "003"}
    assert all(promise and reason for _, promise, reason in missing)


def test_what_shuffling_costs_is_what_was_measured() -> None:
    """Document 001: "random token shuffling destroys language structure"."""
    figures = json.loads((ROOT / "benchmarks" / "results" / "shuffled.json").read_text(encoding="utf-8"))
    ordered, shuffled = figures["in order"], figures["shuffled"]
    assert shuffled["nats_per_token"] > ordered["nats_per_token"] + 1
    (row,) = (row for row in rows("Claimed and measured") if "shuffling" in row[1])
    for number in (f"{found['nats_per_token']:.2f}" for found in (ordered, shuffled)):
        assert number in row[2]
    assert "`benchmarks/shuffled.py`" in row[4]


def test_every_figure_names_what_produced_it() -> None:
    """A row without a test or script says that it cannot be measured here."""
    claims = [row for row in rows("Claimed and measured") if re.fullmatch("00[0-4]", row[0])]
    assert len(claims) > 30
    for row in claims:
        assert row[4] or row[2] == "not measurable here", row


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
