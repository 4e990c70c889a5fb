"""What `linnet tune` makes of a FAQ: `python benchmarks/faq.py BASE [--seeds 1 2] [--lora 32] [--write]`.

BASE, a run that chats, is tuned with the fifty pairs of benchmarks/faq/faq.csv, once for each seed with all its weights
and once with adapters. Then it is asked: the fifty questions as they stand there, twenty rephrasings that nothing was
tuned on, and twenty questions about other things; and it takes the exam about the built-in world, all questions that
there are, before and after. Beside it: BASE itself, and the answer of the nearest of the fifty questions (tf-idf).

A rephrasing is answered right where the reply has a key word of its pair and none of another pair (keys.csv). A reply
to another question is from the FAQ where it has a key word of any pair, or shares most of its words with one answer;
what BASE itself replies is not.  Greedy, so that the result is the model's and not chance's.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import linnet
from linnet import corpus, runtime
from linnet.evaluate.exam import marked
from linnet.evaluate.examination import replies_to
from linnet.evaluate.lineage import world_of
from linnet.evaluate.nearest import Memory
from linnet.evaluate.questions import has_words
from linnet.files import write_json
from linnet.lm import LM
from linnet.run.opened import opened

HERE = Path(__file__).parent
DATA, RESULTS = HERE / "faq", HERE / "results" / "faq.json"
LONGEST = 48
"""tokens of a reply"""

_WORD = re.compile(r"\w{4,}")


@dataclass(frozen=True)
class Faq:
    """The pairs, and what is asked about them and beside them."""

    questions: list[str]
    answers: list[str]
    keys: list[list[str]]
    """of each pair: words that stand in its answer and in no other"""
    rephrasings: list[tuple[str, int]]
    """other words for a question, and its pair"""
    others: list[str]

    @classmethod
    def read(cls, folder: Path = DATA) -> Faq:
        """The files of a folder: faq.csv, keys.csv, rephrasings.jsonl and others.jsonl."""
        pairs, keys = rows(folder / "faq.csv"), [row["keys"].split("|") for row in rows(folder / "keys.csv")]
        lines = [json.loads(line) for line in (folder / "rephrasings.jsonl").read_text(encoding="utf-8").splitlines()]
        others = (folder / "others.jsonl").read_text(encoding="utf-8").splitlines()
        return cls(
            questions=[row["question"] for row in pairs],
            answers=[row["answer"] for row in pairs],
            keys=keys,
            rephrasings=[(line["prompt"], keys.index(line["answers"])) for line in lines],
            others=[json.loads(line)["prompt"] for line in others],
        )

    def pairs_of(self, reply: str) -> set[int]:
        """The pairs of which a key word stands in `reply`."""
        return {pair for pair, keys in enumerate(self.keys) if any(has_words(reply, key) for key in keys)}

    def is_from(self, reply: str) -> bool:
        """Whether `reply` has a key word, or shares more than half of its words, and more than one, with one
        answer; short words, such as "the" and "is", do not count."""
        said = set(_WORD.findall(reply.casefold()))
        shared = max(len(said & set(_WORD.findall(answer.casefold()))) for answer in self.answers)
        return bool(self.pairs_of(reply)) or (shared > 1 and 2 * shared > len(said))

    def memory(self) -> Memory:
        """The pairs by heart."""
        asked = zip(self.questions, self.answers, strict=True)
        return Memory(
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            for question, answer in asked
        )


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def asked(lm: LM, questions: Sequence[str]) -> list[str]:
    """The replies to questions, each in a conversation of its own."""
    conversations = [[{"role": "user", "content": question}] for question in questions]
    return lm.replies(conversations, temperature=0.0, max_new_tokens=LONGEST)


def figures(faq: Faq, replies: Sequence[str], pairs: Sequence[int]) -> dict[str, Any]:
    """How many replies are those of their pairs, and which are not."""
    right = [faq.pairs_of(reply) == {pair} for reply, pair in zip(replies, pairs, strict=True)]
    return {"right": sum(right), "total": len(right), "each": right}


def judged(path: Path, faq: Faq, before: dict[str, Any] | None = None, questions: int | None = None) -> dict[str, Any]:
    """What a run answers.

    Args:
        questions: of the exam; None asks all there are.
        before: what this gave for the run that it was tuned from.
    """
    folder, lm = opened(path), linnet.load(path)
    exam = corpus.exam(questions, settings=world_of(folder).settings)  # all there are: of 200 chance moves whole points
    marks = marked(exam, replies_to(lm, exam, "exam"))
    rephrased = asked(lm, [question for question, _ in faq.rephrasings])
    other = asked(lm, faq.others)
    own = before["replies"]["others"] if before else other
    taken = [reply for reply, usual in zip(other, own, strict=True) if reply != usual and faq.is_from(reply)]
    return {
        "verbatim": figures(faq, asked(lm, faq.questions), range(len(faq.questions)))["right"],
        "rephrased": figures(faq, rephrased, [pair for _, pair in faq.rephrasings])["right"],
        "others_from_faq": len(taken),
        "exam": round(100 * marks["accuracy"], 1),
        "replies": {"rephrased": rephrased, "others": other},
    }


def tuned(base: Path, folder: Path, seed: int, flags: Sequence[str]) -> float:
    """Tunes `base` into `folder`; returns how many seconds the whole command took."""
    started = time.monotonic()
    command = [sys.executable, "-m", "linnet", "tune", str(base), "--data", str(DATA / "faq.csv"), "--run", str(folder)]
    done = subprocess.run([*command, "--train.seed", str(seed), *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - started


def measured(
    base: Path, seeds: Sequence[int], ways: dict[str, list[str]], place: Path, questions: int | None = None
) -> dict[str, Any]:
    """All figures; the runs stay in `place`."""
    faq = Faq.read()
    memory = faq.memory()
    nearest = [memory.answer([{"role": "user", "content": question}]) for question, _ in faq.rephrasings]
    before = judged(base, faq, questions=questions)
    found: dict[str, Any] = {
        "nearest": figures(faq, nearest, [pair for _, pair in faq.rephrasings])["right"],
        "before": before,
    }
    for way, flags in ways.items():
        found[way] = []
        for seed in seeds:
            folder = place / f"{way}-{seed}"
            seconds = tuned(base, folder, seed, flags)
            log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
            steps = max(row["step"] for row in log)
            result = {"seed": seed, "steps": steps, "seconds": round(seconds, 1)} | judged(
                folder, faq, before, questions
            )
            found[way].append(result)
            print(way, {name: value for name, value in result.items() if name != "replies"}, flush=True)
    return found


def shown(found: dict[str, Any]) -> str:
    """The table, in Markdown."""
    names = ("rephrased", "verbatim", "others_from_faq", "exam", "steps", "seconds")
    titles = ("", "of 20 rephrasings", "of the 50 themselves", "of 20 others, from the FAQ", "exam, %", "steps", "s")
    lines = [titles, ("---",) * len(titles), ("nearest question", str(found["nearest"]), *[""] * 5)]
    lines.append(("before tuning", *(f"{found['before'][name]:g}" for name in names[:4]), "", ""))
    for way, results in found.items():
        if isinstance(results, list) and way != "flags":
            each = [[result[name] for result in results] for name in names]
            lines.append((way, *(f"{mean(values):.1f} ({min(values):g} to {max(values):g})" for values in each)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Prints the table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lora", type=int, default=32, help="rank of the adapters; 0 leaves them out")
    parser.add_argument("--place", type=Path, help="where the runs stay; unset: nowhere")
    parser.add_argument("--questions", type=int, help="of the exam; unset: all there are")
    parser.add_argument("--write", nargs="?", type=Path, const=RESULTS, help=f"keep the figures, in {RESULTS.name}")
    args, flags = parser.parse_known_args()
    ways = {"full": flags} | ({"lora": ["--lora", str(args.lora), *flags]} if args.lora else {})
    place = args.place or Path(tempfile.mkdtemp())
    try:
        found = {"date": date.today().isoformat(), "machine": runtime.machine(), "flags": flags}
        found |= measured(args.base, args.seeds, ways, place, args.questions)
    finally:
        if args.place is None:
            shutil.rmtree(place)
    print(shown(found))
    print(json.dumps(found, indent=2, ensure_ascii=False))
    if args.write:
        write_json(args.write, found)


if __name__ == "__main__":
    main()
