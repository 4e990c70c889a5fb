"""The exam of a run with seeds that nothing was chosen by: `python benchmarks/exam_seeds.py RUN [--seeds 1 2 3 4 5]`.

Each seed draws 200 questions of its own, evenly from all kinds; beside them stands the exam of all questions that there
are (200 of those kinds that have more). `--write` keeps the figures in results/exam_seeds.json.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from statistics import mean

import linnet
from linnet import corpus, runtime
from linnet.evaluate.exam import marked
from linnet.evaluate.examination import replies_to
from linnet.evaluate.lineage import world_of
from linnet.files import write_json
from linnet.run.opened import opened

RESULTS = Path(__file__).parent / "results" / "exam_seeds.json"


def main() -> None:
    """Prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    args = parser.parse_args()
    lm, settings = linnet.load(args.run), world_of(opened(args.run)).settings

    def asked(count: int | None, seed: int) -> dict[str, object]:
        exam = corpus.exam(count, seed, settings)
        found = marked(exam, replies_to(lm, exam, f"seed {seed}"))
        kinds = {kind: [marks["right"], marks["total"]] for kind, marks in found["categories"].items()}
        return {"seed": seed, "questions": len(exam), "accuracy": round(found["accuracy"], 4), "kinds": kinds}

    each, whole = [asked(200, seed) for seed in args.seeds], asked(None, args.seeds[0])
    found = {
        "date": date.today().isoformat(),
        "machine": runtime.machine(),
        "mean": round(mean(float(str(one["accuracy"])) for one in each), 4),
        "each": each,
        "all": whole,
    }
    print(json.dumps(found, indent=2))
    if args.write:
        write_json(RESULTS, found)


if __name__ == "__main__":
    main()
