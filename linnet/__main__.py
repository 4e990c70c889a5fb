"""`linnet VERB`: one table of verbs; a verb's module is imported only when it is called."""

import difflib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from linnet import __version__, runtime
from linnet.console import replace_what_cannot_be_shown
from linnet.errors import UserError
from linnet.settings import shown
from linnet.streams import open_what_is_closed, outlast_readers
from linnet.training.stop import Interrupted

VERBS = {
    "demo": "from nothing to a conversation, in minutes",
    "prepare": "text -> tokenizer and token shards",
    "train": "shards -> a trained run",
    "tune": "a trained run, and dialogues -> a run that answers as they do",
    "sweep": "try settings, one run for each combination, and rank them",
    "runs": "compare runs in a table and a picture",
    "eval": "score a run on held-out text, and in the exam",
    "import": "a published model as a folder to tune and talk to",
    "generate": "continue a prompt",
    "chat": "talk to a run in the terminal",
    "lab": "talk to runs in the browser",
    "inspect": "what is expected at each place of a text, and where the heads look",
    "plot": "loss and perplexity curves as pictures",
    "report": "one self-contained page about a run",
    "tokenizer": "train, encode, decode, stats",
    "recipes": "list recipes, or show one",
    "doctor": "whether this machine computes right; what is wrong with a run folder",
}

SHARED = ("train", "tune")
"""verbs that several processes do together, which a launcher such as torchrun has started"""

LASTING = ("train", "tune", "prepare", "demo", "sweep", "import")
"""verbs whose work lies on disk in the end: they go on where nobody reads what they say"""

MODULES = {"import": "import_model"}
"""verbs whose modules have other names: `import` is a word of Python's own"""

QUICK_START = """\
Linnet grows small language models from your own text, and shows every step.

Quick start:
  linnet demo                                  everything once, in minutes, offline
  linnet prepare my-texts/ --out data/mine     your text -> tokens
  linnet train linnet-small --data data/mine --run runs/mine
  linnet generate runs/mine --prompt "Once"
  linnet chat runs/demo

Verbs (each has --help with an example):
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code: 0, 2 for an error the user can mend, 130 or 143 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    open_what_is_closed()
    try:
        code = _answer(argv)
        sys.stdout.flush()  # a reader that has gone is noticed here: at the program's end it would be a complaint
        return code
    except UserError as error:
        return _complain(error)
    except Interrupted as stop:  # while something is trained that a verb needs, such as a base for little text
        print(f"{stop}; the same command begins again", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:  # a name that is too long, a link in a circle: whatever the system refuses
        if _reader_has_gone(error):
            return 0
        return _complain(UserError(f"{shown(error.filename or 'the system')}: {error.strerror or error}"))
    except UnicodeEncodeError as error:
        around = ascii(error.object[max(0, error.start - 20) : error.end])
        return _complain(UserError(f"{around} cannot be written as UTF-8; rename the file or retype the text"))


def _answer(argv: Sequence[str]) -> int:
    """Help, the version, or a verb; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"linnet {__version__}")
        return 0
    return run_verb(argv[0], list(argv[1:]))


def _reader_has_gone(error: OSError) -> bool:
    """Whether what reads this program's output has ended, as `head` does; then the rest goes nowhere, quietly."""
    windows_says = sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    if not isinstance(error, BrokenPipeError) and not windows_says:
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    return True


def run_verb(verb: str, argv: list[str]) -> int:
    """Imports the verb's module and calls it.

    Raises:
        UserError: there is no such verb, or what the verb raises.
    """
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean `linnet {near[0]}`?" if near else "`linnet --help` lists all verbs"
        raise UserError(f"unknown verb {shown(verb)!r}; {hint}")
    warnings.showwarning = _plain_warning
    if verb in LASTING and not {"-h", "--help"} & set(argv):
        outlast_readers()
    replace_what_cannot_be_shown()
    runtime.share_cores()
    module = importlib.import_module(f"linnet.verbs.{MODULES.get(verb, verb)}")
    if runtime.launched() is None:
        return int(module.main(argv) or 0)
    if verb not in SHARED:
        raise UserError(f"`linnet {verb}` is done by one process; start it without a launcher such as torchrun")
    from linnet.training.leading import together

    return together(module.main, argv)


def help_text() -> str:
    """The quick start and the table of verbs."""
    width = max(map(len, VERBS))
    return QUICK_START + "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())


def _complain(error: UserError) -> int:
    if runtime.debug():
        raise error
    print(f"linnet: {error}", file=sys.stderr)
    return 2


def _plain_warning(message: Warning | str, *ignored: object, **also_ignored: object) -> None:
    print(f"note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
