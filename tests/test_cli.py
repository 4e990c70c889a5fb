"""The command line: help that is quick, errors that are one line with exit code 2, JSON that is nothing else."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from linnet.__main__ import VERBS, main

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    """Runs one verb in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capfd.readouterr()
        try:
            code = main([str(word) for word in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


QUICK = (
    "--train.steps 4 --train.compile off --train.sample-tokens 3 --model.n-layer 1 --model.n-embd 16 "
    "--model.n-head 2 --model.block-size 32"
).split()


@pytest.fixture(scope="session")
def trained(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on stories and dialogues."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "linnet-tiny", "--data", str(dialogue_data), "--run", str(run), *QUICK]) == 0
    return run


def test_help_imports_neither_torch_nor_the_flag_library() -> None:
    code = "import sys, linnet.__main__ as m; m.main(['--help']); print({'torch', 'tyro', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")
    assert "Quick start" in done.stdout


def test_importing_linnet_imports_no_torch() -> None:
    code = "import sys, linnet; linnet.ModelConfig(); linnet.DataConfig(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "tokenizer"])
def test_every_verb_has_help_with_an_example(verb: str, shell: Shell) -> None:
    code, out, _ = shell(verb, "--help")
    assert code == 0
    assert f"Example: linnet {verb}" in out


@pytest.mark.parametrize("action", ["train", "encode", "decode", "stats"])
def test_the_tokenizers_actions_have_help_with_an_example(action: str, shell: Shell) -> None:
    code, out, _ = shell("tokenizer", action, "--help")
    assert code == 0
    assert f"Example: linnet tokenizer {action}" in out


def failed(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, nothing on standard output, one line that has all `words` and no traceback."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("linnet: "), err
    assert "Traceback" not in err
    for word in words:
        assert word in last, last


def test_a_very_long_word_is_not_repeated_whole(shell: Shell) -> None:
    for result in (shell("x" * 5000), shell("eval", "x" * 5000)):
        failed(result, "xxx ... xxx")
        assert len(result[2]) < 400


def test_unknown_verbs_options_and_recipes_get_a_suggestion(shell: Shell) -> None:
    failed(shell("trian"), "unknown verb 'trian'", "did you mean `linnet train`?")
    failed(shell("train", "linnet-tinny"), "unknown recipe 'linnet-tinny'", "linnet-tiny")
    failed(shell("train", "--model.n-layers", "3"), "--model.n-layers", "did you mean --model.n-layer")
    failed(shell("tokenizer", "encod"), "encod", "encode")
    failed(shell("recipes", "show"), "name the recipe")


def test_an_unknown_key_in_a_recipe_is_an_error(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[model]\nn_layers = 3\n")
    failed(shell("train", "mine.toml"), "unknown key 'model.n_layers'", "n_layer")


def test_bad_sources_of_text(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"MZ\x00\x01\x02" * 100)
    (tmp_path / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 100)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "notes.docx").write_text("x")
    prepare = ("prepare", "--out", "data")
    failed(shell(*prepare, "absent.txt"), "absent.txt")
    failed(shell(*prepare, "empty.txt"), "empty.txt")
    failed(shell(*prepare, "binary.txt"), "binary.txt", "binary")
    failed(shell(*prepare, "latin.txt"), "latin.txt", "UTF-8", "--errors replace")
    failed(shell(*prepare, "table.csv"), "table.csv", "question")
    failed(shell(*prepare, "notes.docx"), "notes.docx", "Word document")
    failed(shell(*prepare, "builtin:poems"), "builtin:poems", "builtin:stories")
    failed(shell("prepare", "latin.txt", "--out", "data", "--tokenizer", "bep"), "bep")
    assert not (tmp_path / "data").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_invalid_bytes_can_be_replaced(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(("caf\xe9 and tea, " * 200).encode("latin-1"))
    code, out, err = shell("prepare", "latin.txt", "--out", "data", "--errors", "replace", "--json")
    assert code == 0, err
    assert json.loads(out)["invalid_bytes_replaced"] == 200


def test_bad_data_for_training(shell: Shell, tmp_path: Path, story_data: Path) -> None:
    (tmp_path / "short.txt").write_text("too short to learn from\n")
    failed(shell("train", "linnet-tiny", "--data", "short.txt", "--run", "r"), "block_size")
    failed(shell("train", "linnet-tiny", "--data", "nowhere", "--run", "r"), "nowhere")
    failed(shell("eval", "nowhere"), "nowhere", "linnet train")


def test_a_data_folder_of_another_tokenizer_is_refused(shell: Shell, trained: Path, story_data: Path) -> None:
    failed(shell("eval", trained, "--data", story_data), "tokenizer")


def test_damaged_data_and_checkpoints_are_refused(shell: Shell, tmp_path: Path) -> None:
    text = "\n".join(f"line {n} of a text that is long enough" for n in range(400))
    (tmp_path / "text.txt").write_text(text)
    assert shell("prepare", "text.txt", "--out", "data", "--vocab-size", "300")[0] == 0
    assert shell("train", "linnet-tiny", "--data", "data", "--run", "run", *QUICK)[0] == 0
    shard = tmp_path / "data" / "val.bin"
    shard.write_bytes(shard.read_bytes()[:-8])
    failed(shell("eval", "run"), "val.bin")
    weights = sorted((tmp_path / "run" / "checkpoints").glob("*/model.safetensors"))
    weights[-1].write_bytes(weights[-1].read_bytes()[:-8])
    code, _, err = shell("generate", "run", "--prompt", "x", "--checkpoint", "last", "--max-new-tokens", "2")
    assert code == 0, err
    assert "takes its place as 'last'" in " ".join(err.split())
    for file in weights[:-1]:
        file.write_bytes(file.read_bytes()[:-8])
    failed(shell("generate", "run", "--prompt", "x"), "model.safetensors", "damaged")
    failed(shell("generate", "run", "--checkpoint", "99"), "99", "best, last")


def test_an_unwritable_place_is_one_line(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words " * 500)
    (tmp_path / "file").write_text("x")
    failed(shell("prepare", "text.txt", "--out", "file/data"), "file")
    failed(shell("train", "linnet-tiny", "--data", "text.txt", "--run", "file/run"), "file")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("precious")
    failed(shell("prepare", "text.txt", "--out", "mine"), "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "precious"


def test_generate_eval_inspect_and_plots_speak_json(shell: Shell, trained: Path) -> None:
    code, out, err = shell("generate", trained, "--prompt", "Once", "--num-samples", 2, "--max-new-tokens", 5, "--json")
    assert code == 0, err
    assert len(json.loads(out)["samples"]) == 2
    code, out, err = shell("eval", trained, "--exam", "--questions", 15, "--source-documents", 10, "--json")
    assert code == 0, err
    result = json.loads(out)
    for key in [
        "loss",
        "perplexity",
        "accuracy",
        "bits_per_byte",
        "bits_per_char",
        "tokens",
        "split",
        "source_bits_per_char",
    ]:
        assert key in result, key
    assert 0 <= result["exam"]["accuracy"] <= 1
    assert len(result["exam"]["categories"]) >= 6
    assert json.loads((trained / "evaluation.json").read_text()) == result
    code, out, err = shell("inspect", trained, "--prompt", "Once", "--json")
    assert code == 0, err
    assert len(json.loads(out)["next"]) == 5
    code, out, err = shell("plot", trained, "--json")
    assert code == 0, err
    assert all(Path(file).exists() for file in json.loads(out)["files"])
    code, out, err = shell("report", trained, "--json")
    assert code == 0, err
    assert Path(json.loads(out)["page"]).read_text().lower().startswith("<!doctype html>")


def test_the_same_seed_says_the_same(shell: Shell, trained: Path) -> None:
    command = ("generate", trained, "--prompt", "Once", "--seed", "3", "--max-new-tokens", "12")
    first, second = shell(*command)[1], shell(*command)[1]
    assert first == second
    assert first.startswith("Once")


def test_chat_works_in_a_pipe(shell: Shell, trained: Path) -> None:
    code, out, err = shell(
        "chat", trained, "--max-new-tokens", "5", stdin="Hello!\n/reset\n/what\nHow are you?\n/quit\nnever said\n"
    )
    assert code == 0, err
    assert len(out.splitlines()) >= 2
    assert "forgotten" in err
    assert "unknown command /what" in err


def test_sampling_settings_are_checked(shell: Shell, trained: Path) -> None:
    failed(shell("generate", trained, "--top-p", "1.5"), "top_p", "1.5")
    failed(shell("generate", trained, "--temperature", "-1"), "temperature")
    failed(shell("generate", trained, "--num-samples", "0"), "--num-samples")


def test_the_tokenizers_actions(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the bird and the bee and the bear " * 50)
    code, out, err = shell("tokenizer", "train", "text.txt", "--out", "t.json", "--vocab-size", "300", "--json")
    assert code == 0, err
    assert json.loads(out)["vocab_size"] <= 300
    code, out, _ = shell("tokenizer", "encode", "t.json", "the bird")
    assert code == 0
    code, text, _ = shell("tokenizer", "decode", "t.json", *out.split())
    assert (code, text) == (0, "the bird\n")
    assert shell("tokenizer", "decode", "t.json", stdin=out)[1] == "the bird\n"
    code, out, _ = shell("tokenizer", "stats", "t.json", "text.txt", "--json")
    assert code == 0
    assert json.loads(out)["bytes_per_token"] > 2
    failed(shell("tokenizer", "decode", "t.json", "999999"), "999999")
    failed(shell("tokenizer", "encode", "absent.json", "x"), "absent.json")


def test_recipes_are_listed_and_shown(shell: Shell) -> None:
    assert "linnet-tiny" in json.loads(shell("recipes", "--json")[1])["recipes"]
    assert "[model]" in shell("recipes", "show", "linnet-small")[1]


def test_errors_show_their_traceback_only_for_developers(monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    from linnet.errors import UserError

    monkeypatch.setenv("LINNET_DEBUG", "1")
    with pytest.raises(UserError):
        shell("eval", "nowhere")


def test_a_run_that_holds_its_data_can_be_moved(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog sat on the log. " * 400)
    assert shell("train", "linnet-small", "--data", "text.txt", "--run", "here", *QUICK)[0] == 0
    (tmp_path / "there").mkdir()
    (tmp_path / "here").rename(tmp_path / "there" / "moved")
    code, out, err = shell("eval", "there/moved", "--json")
    assert code == 0, err
    assert json.loads(out)["tokens"] > 0


def test_a_single_window_of_validation_has_no_error_and_is_no_traceback(shell: Shell, tmp_path: Path) -> None:
    rows = "\n".join(f"What is {n}?,It is {n}." for n in range(40))
    (tmp_path / "pairs.csv").write_text("question,answer\n" + rows + "\n")
    code, _, err = shell(
        "train", "linnet-tiny", "--data", "pairs.csv", "--run", "r", *QUICK, "--model.block-size", "128"
    )
    assert code == 0, err
    assert "nan" not in err
    code, out, err = shell("eval", "r")
    assert code == 0, err
    assert "nats/token" in out


def test_square_brackets_in_tokens_are_shown(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "code.txt").write_text('echo "${a[@]}" [/] [bold] :bird: ' * 200)
    assert shell("tokenizer", "train", "code.txt", "--out", "t.json", "--vocab-size", "300")[0] == 0
    code, out, err = shell("tokenizer", "stats", "t.json", "code.txt")
    assert code == 0, err
    assert "[/]" in out


def test_an_empty_gzip_file_is_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(b"")
    code, _, err = shell("prepare", "a.txt.gz", "--out", "d")
    assert code == 2
    assert "no whole gzip file" in err


def test_training_never_writes_into_a_folder_of_something_else(
    shell: Shell, tmp_path: Path, dialogue_data: Path
) -> None:
    shutil.copytree(dialogue_data, tmp_path / "d")
    before = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir() if path.is_file()}
    for run in ("d", "."):
        code, _, err = shell("train", "linnet-tiny", "--data", "d", "--run", run, *QUICK)
        assert code == 2
        assert "name a new folder for --run" in err
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "flags",
    [
        "--train.seed -1", "--train.threads 999999999", "--train.clip nan", "--train.max-minutes nan",
        "--train.sample-tokens 99999999999", "--optim.lr nan", "--optim.lr -1", "--optim.matrix-lr inf",
        "--optim.beta1 -1", "--optim.beta2 1e38", "--optim.weight-decay nan", "--model.n-kv-head 0",
        "--model.rope-theta nan", "--model.qk-scale -1",
    ],
)  # fmt: skip
def test_a_number_that_makes_no_sense_is_refused_before_anything_is_written(
    shell: Shell, tmp_path: Path, dialogue_data: Path, flags: str
) -> None:
    code, _, err = shell("train", "linnet-tiny", "--data", str(dialogue_data), "--run", "r", *QUICK, *flags.split())
    assert code == 2
    assert flags.split()[0].lstrip("-").replace("-", "_") in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("text", ["[]", "null", "{}", "5", "{"])
@pytest.mark.parametrize(
    "name", ["manifest.json", "checkpoints/step-000004/manifest.json", "checkpoints/step-000004/state.json"]
)
def test_damaged_json_in_a_run_is_one_plain_line(
    shell: Shell, tmp_path: Path, trained: Path, name: str, text: str
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    (tmp_path / "r" / name).write_text(text)
    step = ["--checkpoint", "4"] if "step" in name else []  # a damaged best one would be replaced
    code, _, err = shell("generate", "r", "--prompt", "a", *step)
    assert code == 2
    assert "is damaged" in err
