"""`linnet chat`: talk to a run, or write on with it, in the terminal or in a pipe."""

import contextlib
import io
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from linnet.console import Flow, columns, emit, say, status
from linnet.errors import UserError
from linnet.generate.sampling import Sampling
from linnet.runtime import cache_folder
from linnet.settings import parse_flags, unescaped

if TYPE_CHECKING:
    from linnet.generate.commands import Commanded
    from linnet.lm import LM


@dataclass(frozen=True, kw_only=True)
class Chat(Sampling):
    """Talk to a run; it remembers what was said, as far as its context reaches. /help lists the commands.

    A run that learned from plain text writes on with you instead: you begin a text, it goes on, you go on.

    Example: linnet chat runs/demo --temperature 0.5
    """

    run: Positional[Path]
    """the run folder"""
    temperature: float = 0.5
    """higher is more surprising; 0 always takes the likeliest token"""
    system: str | None = None
    """a system prompt, kept when the context overflows"""
    transcript: Path | None = None
    """add each turn to this file as it happens: JSON lines that `linnet prepare` reads as dialogues"""
    checkpoint: str | None = None
    """best (lowest validation loss), last, or a step; unset: best, or last where the run learned who it is
    (`--identity`), which the validation loss does not see"""
    adapter: Path | None = None
    """a folder with an adapter that was trained for this run (`linnet tune --lora`)"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object for each answer"""


TOGETHER_S = 0.03
"""within this time after a line come only those that were pasted with it"""
HISTORY = 1000
"""turns that are kept"""

MORE_HELP = """\
The arrow keys bring back what you typed, also in earlier sessions (kept in {file}, which you may delete); pasted lines
are one turn."""

LAST_SPEAKS = """\
the last checkpoint answers: it has learned who it is best, which the validation loss does not see; `--checkpoint best`
takes the one with the lowest"""

TALKING = "talking to {name}; /help lists the commands, /quit or Ctrl-D ends"
WRITING = """\
writing on with {name}: type the beginning of a text, and go on where it stops. What you type is added as it is (begin
with a space where one belongs); an empty line lets it write on. /help lists the commands, /quit or Ctrl-D ends"""

MODEL, OFF = "\x1b[36m", "\x1b[0m"
"""the colour of what the model adds to a text, and its end"""


def main(argv: Sequence[str]) -> None:
    """A line in, an answer out, until the input ends."""
    with status("loading the run and PyTorch ..."):
        args = parse_flags(Chat, argv, "linnet chat")
        import linnet
        from linnet.run import Run
        from linnet.run.opened import opened

        found = opened(args.run)
        run = found if isinstance(found, Run) and not args.adapter else None
        chosen = args.checkpoint or ("best" if run is None else run.checkpoint_to_talk_to())
        lm = linnet.load(args.run, checkpoint=chosen, adapter=args.adapter, device=args.device)
        session = session_of(args, lm)
    if args.checkpoint is None and run is not None and run.checkpoint(chosen) != run.checkpoint("best"):
        say(LAST_SPEAKS)
    interactive = sys.stdin.isatty()
    if interactive:
        session.more_help = MORE_HELP.format(file=history_file())
        greeting = WRITING if session.one_text else TALKING
        say(greeting.format(name=lm.name))
    for line in typed(list(session.commands)) if interactive else piped():
        if line.startswith("/"):
            obey(line, session)
        elif line.strip() or session.one_text:
            answer(line, session, args.json, interactive)
        if not session.open:
            return


def session_of(args: Chat, lm: "LM") -> "Commanded":
    """A chat with a model that has learned dialogues, a draft with another.

    Raises:
        UserError: a draft is to have what only a chat can.
    """
    from linnet.generate.draft import DraftSession
    from linnet.generate.session import Session
    from linnet.generate.transcript import Transcript

    options = {field.name: getattr(args, field.name) for field in fields(Sampling)}
    options["stop"] = tuple(map(unescaped, args.stop))
    if lm.template is not None:
        transcript = Transcript(args.transcript) if args.transcript is not None else None
        return Session(lm.conversation(args.system, **options), transcript)
    for flag, given in (("--system", args.system), ("--transcript", args.transcript)):
        if given is not None:
            raise UserError(
                f"{flag} is for runs that learned dialogues; {lm.name} has no chat template and continues a text: "
                "leave it out (/save FILE keeps the text)"
            )
    return DraftSession(lm.draft(**options))


def typed(commands: Sequence[str]) -> Iterator[str]:
    """Turns from a terminal, with editing keys, a history, and commands completed by Tab; lines pasted together are
    one turn."""
    remember = editing(commands)
    while True:
        try:
            if sys.stdout.isatty():
                line = input("you> ")
            else:  # input() would write its prompt among the answers
                print("you> ", end="", file=sys.stderr, flush=True)
                line = input()
            turn = "\n".join([line, *pasted()])
            remember(turn)
            yield turn
        except EOFError:
            say()
            return
        except KeyboardInterrupt:
            say(" (Ctrl-D leaves)")


def pasted() -> Iterator[str]:
    """The lines that came together with the one just read: nobody types the next within `TOGETHER_S`."""
    try:
        while select.select([sys.stdin], [], [], TOGETHER_S)[0]:
            yield input()
    except (EOFError, OSError, ValueError):  # the end comes again; Windows looks at no terminal, nor does a test's text
        return


def editing(commands: Sequence[str]) -> Callable[[str], None]:
    """Sets up the terminal's editing keys; returns what keeps a turn for the arrow keys of this and later sessions."""
    try:
        import readline
    except ImportError:  # Windows has none
        return lambda _: None
    readline.set_completer_delims("")
    readline.set_completer(lambda text, n: [*(name for name in commands if name.startswith(text)), None][n])
    readline.parse_and_bind("tab: complete")
    readline.parse_and_bind("set enable-bracketed-paste on")
    readline.set_auto_history(False)
    readline.set_history_length(HISTORY)
    file = history_file()
    with contextlib.suppress(OSError):
        readline.read_history_file(file)

    def remember(turn: str) -> None:
        if not turn.strip():
            return
        readline.add_history(" ".join(turn.splitlines()))  # the file has a line for each
        with contextlib.suppress(OSError):  # a chat needs no history
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.chmod(0o600)  # what one says to a model is nobody else's business
            readline.append_history_file(1, file)

    return remember


def history_file() -> Path:
    """Where what is typed into chats is kept, for this user alone."""
    return cache_folder() / "chat-history"


def piped() -> Iterator[str]:
    """The lines of standard input; bytes that are no UTF-8 become U+FFFD."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    for line in sys.stdin:
        yield line.rstrip("\r\n")


def obey(line: str, session: "Commanded") -> None:
    """Does what a line that begins with a slash asks for."""
    session.width = columns() - 1 if sys.stderr.isatty() else None
    try:
        said = session.command(line)
    except UserError as error:
        said = str(error)
    except KeyboardInterrupt:  # /why reads the whole answer again
        said = " (cut short)"
    if said:
        say(said)


def answer(line: str, session: "Commanded", as_json: bool, interactive: bool) -> None:
    """Prints the reply as it comes; on a terminal Ctrl-C cuts it short, keeps what came, and the session goes on."""
    said: list[str] = []
    cut = False
    shown = Flow(colours() if session.one_text else ("", ""))
    try:
        for note in session.notes(line):
            say(f"({note})")
        with contextlib.closing(session.ask(line)) as pieces:
            for piece in pieces:
                said.append(piece)
                if not as_json:
                    shown.write(piece)
        shown.end()
    except KeyboardInterrupt:
        shown.end()
        cut = True
        if not interactive:
            raise
    except UserError as error:
        if not interactive:
            raise  # nobody is there to mend it
        say(f"{error}")
        if not said:
            return
    if as_json:
        emit({"prompt": line, "reply": "".join(said), "whole": not cut})
    else:
        print(flush=True)
    if cut:
        say("(cut short)")
    elif interactive and session.remark:
        say(session.remark)
    elif not as_json and not "".join(said).strip():
        say("(nothing was said: the model ended at once)")


def colours() -> tuple[str, str]:
    """What colours the model's part of a text, and what ends that; empty where standard output shows no colours."""
    from rich.console import Console

    console = Console(file=sys.stdout)
    return (MODEL, OFF) if console.color_system and not console.legacy_windows else ("", "")
