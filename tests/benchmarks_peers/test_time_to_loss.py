"""The comparison of times to a loss: equal texts, fair crossings, true summaries, and a whole one in small."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linnet.__main__ import main
from linnet.data import Prepared, prepare
from linnet.errors import UserError
from linnet.run.rows import read_rows

LOOKS = [{"seconds": 10.0, "nats": 3.0}, {"seconds": 20.0, "nats": 2.0}, {"seconds": 30.0, "nats": 2.1}]


@pytest.fixture(scope="module")
def compared(time_to_loss: ModuleType, verse: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return time_to_loss.characters(verse, tmp_path_factory.mktemp("work"), 20, ["eager", "compiled"])


def test_both_sides_are_trained_and_scored_on_the_same_characters(compared: Any, verse: Path):
    text = verse.read_text()
    (own,) = compared.own.values()
    peer, data = compared.peers[0], Prepared.open(own.data)
    alphabet = sorted(set(text))

    def peers(file: Path) -> str:
        return "".join(alphabet[id] for id in np.fromfile(file, np.uint16))

    def ours(ids: np.ndarray) -> str:
        return data.tokenizer().decode(ids.tolist())

    assert peers(peer.ids) == text[:10_800] == ours(data.split("train").tokens[:-1])
    assert peers(peer.score_ids) == text[10_800:] == ours(np.fromfile(own.score_ids, np.uint16))
    assert compared.units == 1_199, "each character of the last tenth but the first"
    assert peer.vocab_size == len(alphabet)
    assert [peer.compile for peer in compared.peers] == [False, True]


def test_a_crossing_counts_at_the_look_that_sees_it(rounds: ModuleType):
    assert [rounds.crossing(LOOKS, target) for target in (3.5, 3.0, 2.9, 2.0, 1.9)] == [10, 10, 20, 20, None]


def test_the_loss_at_a_time_is_the_last_one_known_by_then(rounds: ModuleType):
    assert [rounds.loss_at(LOOKS, seconds) for seconds in (9, 10, 29, 31)] == [None, 3.0, 2.0, 2.1]


def test_figures_of_a_round_by_hand(rounds: ModuleType):
    short = [{"seconds": 4.0, "nats": 2.2}, {"seconds": 6.0, "nats": 2.1}]
    whole = [{"seconds": 15.0, "nats": 1.9}, {"seconds": 30.5, "nats": 1.5}]
    found = rounds.figures_of({"looks": LOOKS}, {"looks": short}, {"looks": whole})
    assert found == {
        "peer_loss": 2.1,
        "peer_seconds": 20.0,  # it had its final loss, 2.1, before its end
        "linnet_seconds": 6.0,
        "ratio": 20 / 6,
        "linnet_loss_at_peer_end": 1.9,  # the look after 30.5 s came too late
    }


def test_the_earlier_of_both_runs_has_the_loss_first(rounds: ModuleType):
    late = [{"seconds": 6.0, "nats": 2.2}]
    whole = [{"seconds": 12.0, "nats": 2.0}, {"seconds": 20.0, "nats": 1.9}]
    assert rounds.figures_of({"looks": LOOKS}, {"looks": late}, {"looks": whole})["linnet_seconds"] == 12
    assert rounds.figures_of({"looks": LOOKS}, {"looks": whole}, {"looks": late})["linnet_seconds"] == 12
    never = rounds.figures_of({"looks": LOOKS}, {"looks": late}, {"looks": late})
    assert (never["linnet_seconds"], never["ratio"]) == (None, None)


def test_a_round_that_never_crosses_leaves_no_median(rounds: ModuleType):
    three = [{"ratio": 3.0}, {"ratio": None}, {"ratio": 5.0}]
    assert rounds.summary(three) == {"ratio": None, "rounds_without_ratio": 1}
    assert rounds.summary([{"ratio": 3.0}, {"ratio": 5.0}]) == {"ratio": {"median": 4.0, "least": 3, "most": 5}}


def test_the_curves_of_a_results_file_are_drawn(rounds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, picture = tmp_path / "results.json", tmp_path / "curves.png"
    monkeypatch.setattr(sys, "argv", ["rounds.py", str(file), str(picture)])
    for content in ("{", '{"runs": []}', "[]"):
        file.write_text(content)
        with pytest.raises(UserError, match="holds no results"):
            rounds.main()
    runs = [{"name": "nanoGPT", "looks": LOOKS}, {"name": "Linnet", "looks": LOOKS}]
    for count in (1, 2):
        file.write_text(json.dumps({"text": "verse.txt", "unit": "nats per character", "runs": runs[:count]}))
        rounds.main()
        with Image.open(picture) as drawn:
            assert drawn.size == (1125, 630)
            assert len(drawn.convert("RGB").getcolors(1 << 20)) > 20
        picture.unlink()


def test_flags_change_a_recipe(time_to_loss: ModuleType):
    config = time_to_loss.linnet_config("shakespeare", ["--optim.lr", "0.5"])
    assert (config.optim.lr, config.model.n_embd, config.model.within_documents) == (0.5, 128, False)
    with pytest.raises(UserError, match="unknown recipe"):
        time_to_loss.linnet_config("shakespear", [])


def test_a_model_above_the_limit_is_refused(time_to_loss: ModuleType, compared: Any):
    config = time_to_loss.linnet_config("shakespeare", [])
    data = compared.text(config).data
    time_to_loss.check_size(config, data)
    large = time_to_loss.linnet_config("shakespeare", ["--model.n-embd", "160"])
    with pytest.raises(UserError, match="810,000 are allowed"):
        time_to_loss.check_size(large, data)


def test_the_recipes_read_what_is_compared(time_to_loss: ModuleType, tmp_path: Path):
    """A text of 65 characters, as many as the one that the recipes are for has."""
    file = tmp_path / "text.txt"
    file.write_text("".join(chr(40 + (n * n + n // 7) % 65) for n in range(2000)))
    (own,) = time_to_loss.characters(file, tmp_path / "compared", 20, ["eager"]).own.values()
    compared = Prepared.open(own.data)
    for recipe in ("shakespeare-quick", "shakespeare", "shakespeare-long"):
        options = time_to_loss.linnet_config(recipe, []).prepare
        data = prepare(dataclasses.replace(options, sources=(str(file),)), tmp_path / recipe)
        assert data.tokenizer().fingerprint() == compared.tokenizer().fingerprint()
        for split in ("train", "val"):
            assert np.array_equal(data.split(split).tokens, compared.split(split).tokens)


def test_the_command_is_given_the_time_that_is_left_after_its_start(
    time_to_loss: ModuleType, compared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flags = "--model.n-layer 1 --model.n-embd 16 --model.block-size 16 --train.steps 20 --train.compile off "
    flags += "--train.device cpu --train.sample-tokens 0 --train.eval-interval 20"
    words = ["--text", "verse.txt", "--alone", "--linnet-minutes", "1", "--threads", "1", *flags.split()]
    runner = time_to_loss.Runner(dataclasses.replace(compared, window=16), time_to_loss.arguments(words), tmp_path)

    def watched(command: list[str], metrics: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
        assert Path(environment["XDG_CACHE_HOME"]).parent == metrics.parent.parent, "nothing is cached beforehand"
        assert main(command[3:]) == 0
        return [row | {"seconds": row["elapsed_s"] + 2.4} for row in read_rows(metrics)]

    monkeypatch.setattr(time_to_loss, "watched", watched)
    monkeypatch.setattr("linnet.plots.draw_run", lambda run: None)
    found = runner.linnet("shakespeare", 62.4, seed=7)
    assert found["command"] == (
        "linnet train shakespeare --data DATA --run RUN --train.max-minutes 1.0000 --train.seed 7 "
        f"{flags} --train.threads 1"
    )
    assert found["start_s"] == pytest.approx(2.4)
    last = found["looks"][-1]
    assert (last["step"], found["best"]["step"], found["best"]["by_itself"]) == (20, 20, last["nats"])
    # the common scorer leaves out the end of the text, a surprise among so few characters, and cuts one place on
    assert found["best"]["by_the_common_scorer"] == pytest.approx(last["nats"], abs=0.05)
    with pytest.raises(UserError, match=r"takes 2\.4 s to start, and has 2\.0 s"):
        runner.linnet("shakespeare", 2.0, seed=7)


WRITER = """
import json, sys, time
began = time.monotonic()
for step in range(4):
    time.sleep(0.15 * (step == 2))
    row = {"step": step, "elapsed_s": time.monotonic() - began}
    with open(sys.argv[1], "a") as file:
        file.write(json.dumps(row) + "\\n" * (step < 3))
with open(sys.argv[1], "a") as file:
    file.write("\\n")  # the end of the last line, and then the end of the process
sys.exit(int(sys.argv[2]))
"""


def test_rows_are_seen_once_each_after_they_were_written(time_to_loss: ModuleType, tmp_path: Path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "rows")]
    rows = time_to_loss.watched([*command, "0"], tmp_path / "rows", {})
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert all(row["seconds"] >= row["elapsed_s"] for row in rows)
    assert rows[2]["elapsed_s"] > 0.15
    with pytest.raises(UserError, match="exit code 3"):
        time_to_loss.watched([*command, "3"], tmp_path / "more", {})


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred small stories between separators."""
    file = tmp_path_factory.mktemp("tales") / "tales.txt"
    file.write_text(
        "\n<|endoftext|>\n".join(f"Story {n}: a cat met {n} dogs and left." for n in range(200)), encoding="utf-8"
    )
    return file


def test_stories_are_scored_in_full_by_bytes_whatever_the_ids(time_to_loss: ModuleType, tales: Path, tmp_path: Path):
    found = time_to_loss.stories(tales, tmp_path, minutes=2)
    assert found.seconds == 120
    assert len(found.peers) == 3
    texts = []
    for peer in found.peers:
        data = Prepared.open(tmp_path / peer.score_ids.name.removesuffix("-val.bin"))
        ids = np.fromfile(peer.score_ids, np.uint16)
        end = data.tokenizer().end_of_text
        assert ids[0] == end == ids[-1]
        texts.append("".join(data.tokenizer().decode([id]) for id in ids.tolist() if id != end))
        assert found.units == len(texts[-1].encode())
    assert len(set(texts)) == 1
    few, usual = (time_to_loss.linnet_config(name, []) for name in ("stories-quick", "stories"))
    assert [found.text(config).data.name for config in (few, usual)] == ["bpe-2048", "bpe-4096"]
    assert texts[0].endswith("met 199 dogs and left.")


def test_linnet_alone_needs_no_checkout_but_its_minutes(time_to_loss: ModuleType):
    with pytest.raises(UserError, match="must name a checkout"):
        time_to_loss.arguments(["--text", "a.txt"])
    with pytest.raises(UserError, match="needs --linnet-minutes"):
        time_to_loss.arguments(["--text", "a.txt", "--alone"])
    args = time_to_loss.arguments(["--text", "a.txt", "--alone", "--linnet-minutes", "1", "--recipe", "linnet-small"])
    assert (args.recipe, args.short_recipe) == ("linnet-small", "linnet-small")


@pytest.mark.slow
def test_a_whole_comparison_in_small(time_to_loss: ModuleType, stand_in: Path, verse: Path, tmp_path: Path):
    command = [sys.executable, time_to_loss.__file__, "--nanogpt", str(stand_in), "--text", str(verse), "--json"]
    command += "--modes eager --iterations 50 --seeds 2 --every 5 --linnet-minutes 0.4 --threads 1".split()
    command += ["--results", str(tmp_path / "found.json"), "--train.compile", "off", "--model.n-layer", "1"]
    command += ["--train.steps", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "found.json").read_text())
    assert found["peer"] == "eager"
    assert [run["name"].partition(",")[0] for run in found["runs"]] == ["nanoGPT", "Linnet", "Linnet"] * 2
    assert [run["seed"] for run in found["runs"]] == [1, 1, 1, 2, 2, 2]
    first, second = (found["runs"][place]["looks"][-1]["nats"] for place in (0, 3))
    assert first != second, "seeds differ"
    assert found["summary"]["ratio"] is not None, "one layer beats a table of bigrams after 50 iterations"
