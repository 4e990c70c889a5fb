"""Which files a prompt and a byte of text walk through, found by running Linnet and looking.

    python docs/walk.py            # both walks, a line for each file, and how often the text file is read
    python docs/walk.py --json     # the same as one JSON object, which tests/test_walk.py compares with the tables here

A prompt walks from `linnet generate` to the first attention call; a byte walks from `linnet train TEXT` to the first
update of the weights. The tables below say why each file on the way is needed; a file that is met and not named in them
fails a test, so that the way does not grow longer unseen.
"""

import argparse
import builtins
import contextlib
import inspect
import io
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

BYTE = {
    "data/source.py": "opens the file and hands on its bytes, a block at a time",
    "data/packed.py": "unpacks them where they are packed; those of a plain file pass",
    "data/text.py": "bytes become characters, and every line end a line feed",
    "data/readers/__init__.py": "asks the reader for the shape that the file has",
    "data/readers/plain.py": "characters become documents",
    "data/splitting.py": "reads each document once, to choose what is held out",
    "data/records.py": "keeps a hash of it, by which what is there twice is found",
    "data/plan.py": "cuts the text where the part that is held out begins",
    "data/vocabulary.py": "counts the pieces of the training text",
    "tokenizers/pretokenize.py": "cuts characters into pieces: words, numbers, signs, white space",
    "tokenizers/core.py": "learns which pairs of tokens to merge, and merges the bytes of each piece to ids",
    "tokenizers/pairs.py": "finds the places of each pair while they are learned",
    "tokenizers/bpe.py": "the vocabulary that the merges make",
    "data/steps.py": "sends each document to its split",
    "data/split_writer.py": "has it encoded, and puts the end of a text behind it",
    "tokenizers/piece_cache.py": "remembers the ids of pieces that it has met",
    "data/shards.py": "ids go to disk, and come back as a map of the file",
    "data/batches.py": "ids become windows, and windows a batch",
    "training/next_token.py": "names the tensors of a batch, and asks for the token that follows each position",
    "training/loop.py": "makes a step of a batch",
    "training/objective.py": "takes a batch to the device, and holds the model and what it is trained for",
    "training/losses.py": "logits and labels become a sum of losses",
    "model/transformer.py": "ids become a stream of hidden states, and those become logits",
    "model/layers.py": "norms, rotation and MLP",
    "model/fused.py": "the same with its gradients, in fewer passes over memory",
    "model/attention.py": "each position gathers from those before it",
    "training/row.py": "the figures of the step",
    "training/schedule.py": "how large the step is",
    "training/optim.py": "gradients are clipped, and weights change",
}
"""what a byte of a text passes, from the file to the first change of a weight"""

PROMPT = {
    "__main__.py": "finds the verb",
    "verbs/generate.py": "takes the prompt from the flags",
    "lm.py": "puts the end of a text before it and has it encoded",
    "tokenizers/base.py": "what every vocabulary can do: encode a text",
    "tokenizers/bpe.py": "hands the text to the merges",
    "tokenizers/pretokenize.py": "cuts characters into pieces",
    "tokenizers/core.py": "merges the bytes of a piece to ids",
    "tokenizers/piece_cache.py": "remembers the ids of pieces that it has met",
    "generate/text.py": "asks the engine for ids, and makes text of them",
    "generate/engine.py": "reads the prompt, then one new id after the other",
    "generate/context.py": "what of a long text is still seen",
    "generate/cache.py": "room for the keys and values of what is read",
    "model/transformer.py": "ids become a stream of hidden states",
    "model/layers.py": "the norm before attention",
    "model/fused.py": "the same in fewer passes over memory",
    "model/attention.py": "the walk ends at its door",
}
"""what a prompt passes, from the command line to the first attention call"""

BESIDE = {
    "flags and settings": """__main__.py verbs/train.py verbs/carrying_out.py verbs/recipe_flags.py
        training/methods.py settings.py
        data/options.py model/config.py model/costs.py training/recipe.py generate/sampling.py""",
    "which shape a file has, and what of it is held out": """data/preparation.py data/sources.py
        data/folders.py data/encodings.py data/sniff.py
        data/people.py data/readers/whatsapp.py data/readers/subtitles.py data/readers/speakers.py
        data/readers/transcripts.py data/readers/reading.py data/dialogues.py data/tally.py data/sides.py
        data/readers/kept.py""",
    "folders, and files that are whole or not there": """__init__.py files.py run/folder.py run/checkpoints.py
        run/lock.py run/model_folder.py run/opened.py run/weights.py run/adapter.py run/rows.py data/account.py
        data/prepared.py data/faults.py data/streaming.py data/remote.py
        training/data.py training/lesson.py training/opening.py training/checkpoint.py training/saving.py
        training/log.py training/step_log.py
        tokenizers/__init__.py tokenizers/loading.py tokenizers/hf_json.py tokenizers/patterns.py
        model/weights.py""",
    "machine, memory and time": """runtime.py training/compilation.py training/budget.py training/timing.py
        training/pace.py training/micro_batch.py training/memory.py training/ranks.py training/stop.py
        training/finished.py training/parallel.py training/mishaps.py training/orthogonal.py""",
    "what is said, shown and looked at": """console.py streams.py training/trackers.py training/display.py
        training/preflight.py
        training/watch.py training/looks.py training/coach.py training/sample.py evaluation.py generate/notes.py
        tokenizers/pieces.py tokenizers/template.py""",
    "what is made for later": """training/pretrain.py training/stretch.py training/state.py tokenizers/base.py lm.py
        tokenizers/token_table.py tokenizers/long_pieces.py training/scaler.py
        generate/streaming.py model/modes.py tokenizers/streaming.py""",
}
"""what is met as well, by what it is for"""

CORE = (
    "tokenizers/pretokenize.py",
    "tokenizers/core.py",
    "tokenizers/bpe.py",
    "data/batches.py",
    "model/config.py",
    "model/layers.py",
    "model/attention.py",
    "model/transformer.py",
    "training/objective.py",
    "training/next_token.py",
    "training/schedule.py",
    "training/optim.py",
    "training/loop.py",
    "generate/sampling.py",
    "generate/engine.py",
)
"""text -> ids -> batch -> logits -> loss -> step -> token: who has read these has read what Linnet is"""

CORE_IMPORTS = {
    "errors": "one exception",
    "settings": "how a message repeats what was given",
    "runtime": "devices",
    "tokenizers.base": "what every vocabulary can do, however it cuts",
    "tokenizers.hf_json": "the file of a vocabulary",
    "tokenizers.streaming": "text too long to hold",
    "tokenizers.pairs": "speed",
    "tokenizers.long_pieces": "speed",
    "tokenizers.piece_cache": "speed",
    "data.shards": "the file of the ids",
    "model.fused": "speed",
    "model.modes": "no dropout while nothing is learned",
    "training.recipe": "the settings of a run",
    "training.losses": "a large head in pieces",
    "training.micro_batch": "less memory than a step would like",
    "training.orthogonal": "what Muon does with a matrix",
    "training.ranks": "more machines than one",
    "training.row": "the figures of a step",
    "evaluate.token_losses": "how a model is scored",
    "generate.cache": "speed",
    "generate.context": "texts longer than the context",
    "generate.single": "speed",
}
"""what the core imports besides itself, and for what; the fewer the better"""

RECIPE = """
[prepare]
vocab_size = 300
[model]
n_layer = 1
n_head = 2
n_embd = 16
block_size = 32
[train]
steps = 1
batch_size = 2
sample_tokens = 0
"""
"""nothing but sizes, so that everything else is as `linnet train` has it by itself"""

SENTENCES = "Ada had a red ball.", "Ben found an old book in the wood.", 'Said Cleo: "Where is Dan?"', "Nobody knew."


class Walk:
    """The files of a package whose functions are called, in the order in which they are first met."""

    def __init__(self, package: Path, end: tuple[str, str]) -> None:
        """`end`: the event of a function, by its qualified name, after which nothing is recorded any more."""
        self.package, self.end = package, end
        self.met: dict[str, None] = {}
        self.stack: list[str] = []
        """files on the stack at the end, outermost first"""
        self.over = False
        self.importing = 0
        self.names: dict[str, str] = {}

    def file(self, code: CodeType) -> str:
        """The file of a function as the house names it, such as data/batches.py; empty outside the package."""
        path = code.co_filename
        if path not in self.names:
            inside = path.startswith(f"{self.package}/")
            self.names[path] = Path(path).relative_to(self.package).as_posix() if inside else ""
        return self.names[path]

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """What `sys.setprofile` calls. Modules that are being imported are no part of the walk."""
        if self.over or event not in ("call", "return"):
            return
        code = frame.f_code
        if code.co_name == "<module>":
            self.importing += {"call": 1, "return": -1}.get(event, 0)
        if self.importing or not code.co_flags & inspect.CO_OPTIMIZED:  # a class body is no function
            return
        if event == "call" and (file := self.file(code)):
            self.met.setdefault(file)
        if (event, code.co_qualname) == self.end and self.file(code):
            self.over, place = True, frame
            while place is not None:
                if (file := self.file(place.f_code)) and file not in self.stack:
                    self.stack.insert(0, file)
                place = place.f_back

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Looks at every call of every thread."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


class Counted(io.FileIO):
    """A file that counts the bytes that are read of it."""

    taken = 0

    def readinto(self, buffer: Any) -> int | None:
        """As a file does."""
        count = super().readinto(buffer)
        self.taken += count or 0
        return count

    def readall(self) -> bytes:
        """As a file does."""
        data = super().readall()
        self.taken += len(data)
        return data


@contextlib.contextmanager
def counting(path: Path) -> Iterator[list[Counted]]:
    """Every opening of `path`, whoever opens it."""
    found: list[Counted] = []
    plain: Callable[..., Any] = builtins.open

    def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if isinstance(file, int) or Path(file) != path or "r" not in mode:
            return plain(file, mode, *rest, **options)
        found.append(Counted(path))
        buffered = io.BufferedReader(found[-1])
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding=options.get("encoding") or "utf-8")

    builtins.open = io.open = opened
    try:
        yield found
    finally:
        builtins.open = io.open = plain


def linnet(*words: str) -> None:
    """One command, as the command line runs it; what it prints on standard output is not shown."""
    from linnet.__main__ import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(list(words))
    if code:
        sys.exit(f"`linnet {' '.join(words)}` ended with {code}:\n{said.getvalue()}")


def walks(folder: Path) -> dict[str, Any]:
    """Both walks, taken in `folder`."""
    import linnet as package

    home = Path(package.__file__).parent
    text, recipe, run = folder / "some.txt", folder / "small.toml", folder / "run"
    # long enough that a look at its beginning is not a reading of all of it
    text.write_text("".join(f"{SENTENCES[n * n % 7 % 4]} {n % 89}\n" for n in range(12_000)), encoding="utf-8")
    recipe.write_text(RECIPE, encoding="utf-8")
    byte = Walk(home, ("return", "Optimizer.step"))
    with counting(text) as readings, byte.recording():
        linnet("train", str(recipe), "--data", str(text), "--run", str(run))
    prompt = Walk(home, ("call", "Attention.forward"))
    with prompt.recording():
        linnet("generate", str(run), "--prompt", "Ada had", "--max-new-tokens", "1")
    whole = [reading for reading in readings if reading.taken >= text.stat().st_size]
    return {
        "package": str(home),
        "prompt_stack": prompt.stack,
        "prompt_met": list(prompt.met),
        "byte_met": list(byte.met),
        "opened": len(readings),
        "read_to_its_end": len(whole),
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What `walks` found, to be read."""
    beside = {file: why for why, files in BESIDE.items() for file in files.split()}
    for name, way, where in (
        ("A prompt, to the first attention call", PROMPT, found["prompt_met"]),
        ("A byte of a text file, to the first change of a weight", BYTE, found["byte_met"]),
    ):
        on_it = [file for file in where if file in way]
        yield f"{name}: {len(on_it)} files carry it, {len(where) - len(on_it)} more are met on the way."
        yield from (f"  {file:28} {what}" for file, what in way.items() if file in where)
        for why in BESIDE:
            if files := [file for file in where if file not in way and beside.get(file) == why]:
                yield f"  {why} ({len(files)}): {', '.join(files)}"
        if files := [file for file in where if file not in way and file not in beside]:
            yield f"  not in the tables ({len(files)}): {', '.join(files)}"
        yield ""
    stack = found["prompt_stack"]
    yield f"On the stack at that attention call: {len(stack)} files: {', '.join(stack)}."
    yield f"The text file is opened {found['opened']} times, and {found['read_to_its_end']} times read to its end."
    core = [file for file in map(Path(found["package"]).joinpath, CORE) if file.exists()]
    size = sum(file.read_text(encoding="utf-8").count("\n") for file in core)
    yield f"The core is {len(core)} files of {size:,} lines, and imports {len(CORE_IMPORTS)} others."


def main() -> None:
    """Takes both walks and prints what they met."""
    parser = argparse.ArgumentParser(description="Which files a prompt and a byte of text walk through.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as folder:
        found = walks(Path(folder))
    print(json.dumps(found, indent=1) if as_json else "\n".join(lines(found)))


if __name__ == "__main__":
    main()
