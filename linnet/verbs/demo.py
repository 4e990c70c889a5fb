"""`linnet demo`: from nothing to a conversation, in minutes."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linnet.console import emit, table, tell
from linnet.settings import from_dict, parse_flags, read_toml, recipe_path


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Generate text, learn its tokens, train, evaluate, write a report, tell a story and talk. Nothing is downloaded.

    Example: linnet demo
    """

    run: Path = Path("runs/demo")
    """the run folder; an interrupted demo continues"""
    minutes: float | None = None
    """time for training; unset takes the recipe's"""
    documents: int | None = None
    """how many stories and dialogues to generate; unset takes the recipe's"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> int | None:
    """Runs the demo, then shows what came of it and what to type next."""
    args = parse_flags(Demo, argv, "linnet demo")
    from linnet.demo import demo
    from linnet.training.recipe import Config
    from linnet.training.stop import Interrupted

    config = from_dict(Config, read_toml(recipe_path("linnet-tiny")), Config())
    if args.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=args.minutes))
    if args.documents is not None:
        config = replace(config, prepare=replace(config.prepare, builtin_documents=args.documents))
    try:
        result = demo(config, args.run, ["linnet", "demo", *argv])
    except Interrupted as stop:
        print(f"{stop}; the same command continues", file=sys.stderr)
        return stop.exit_code
    if args.json:
        emit(result)
        return None
    from linnet.verbs.eval_rows import rows

    table("what it reached", rows(result))
    from linnet.report.writing import with_exam_notes

    tell(f"A story by this model\n\n{result['story'].strip()}\n\nA conversation with it\n")
    for message in with_exam_notes(result["conversation"], result.get("exam")):
        tell(f"  {'you' if message['role'] == 'user' else 'it':>4}: {message['content']}")
        if message["note"]:
            tell(f"        ({message['note'].rstrip('.')})")
    tell(f"\nThe whole story on one page: {result['page']}\n\nWhat to type next:")
    print(
        f"  linnet chat {args.run}\n"
        f'  linnet generate {args.run} --prompt "Once" --num-samples 3\n'
        f'  linnet inspect {args.run} --prompt "One day"\n'
        f"  linnet prepare YOUR-TEXTS/ --out data/mine && linnet train linnet-small --data data/mine --run runs/mine"
    )
    return None
