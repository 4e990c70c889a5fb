"""`linnet prepare --part K/N` and `--merge`: the parts of a preparation one by one, on whatever machines there are.

What parts leave lies in OUT.parts beside the target OUT, until OUT is whole. A part does what can be done now, and what
it has done is not done again.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from linnet.console import progress, say
from linnet.data.done import differences, is_done
from linnet.data.engines import Ray, processors
from linnet.data.options import DataConfig
from linnet.data.parts import Job, encode, join, make_plan, read, said_again, share_of
from linnet.data.parts_folder import JOB, check_parts_folder, parts_folder, remove_parts_folder
from linnet.data.preparation import check_target
from linnet.data.prepared import Prepared
from linnet.data.sealed import SUM, read_sealed, write_sealed
from linnet.data.sources import STDIN
from linnet.data.steps import Steps
from linnet.errors import UserError
from linnet.files import making_folder, passing_folder
from linnet.settings import from_dict, shown

MOST_PARTS = 100_000


def numbered(text: str) -> tuple[int, int]:
    """A part as users name it: "2/8" is the second of eight.

    Raises:
        UserError: it is no such pair of numbers.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    part, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= count <= MOST_PARTS:
        raise UserError(f"--part {shown(text)} is not understood; write K/N, part K of N: 1/4, 2/4, 3/4 and 4/4")
    return part, count


def prepare_part(config: DataConfig, out: Path, part: int, count: int, *, overwrite: bool = False) -> str:
    """Does what can be done of a part: reads its texts, and encodes its documents once there is a plan.

    Returns:
        a sentence that says how far the part is, and what comes next.
    Raises:
        UserError: a source cannot be used, or parts of another preparation lie there.
    """
    _check(config.sources, out)
    if not overwrite and is_done(config, out, lambda sources: share_of(sources, part, count)):
        return f"{out} is done already, from the same sources with the same settings; nothing is left to do"
    with _job(config, out, count) as (job, _):
        this, merge = f"part {part} of {count}", f"`linnet prepare --out {shown(out)} --merge`"
        try:
            plan = job.left(job.plan_folder, whole=True)
        except UserError as error:
            raise UserError(f"{error}; {merge} makes the plan again") from error
        if not job.has(job.read_folder(part), whole=True):
            with progress("reading", sum(source.size for source in job.sources_of(part)), "bytes") as bar:
                read(job, part, bar.advance)
        if plan is None:
            return _state(job, job.read_folder, f"{this}: read", merge)
        if not job.has(job.encoded_folder(part), plan[SUM], whole=True):
            with progress("encoding", plan["characters"] // count, "characters") as bar:
                encode(job, part, bar.advance)
        return _state(job, job.encoded_folder, f"{this}: encoded", merge, plan[SUM])


def prepare_by_ray(config: DataConfig, out: Path, workers: int | None = None, *, overwrite: bool = False) -> Prepared:
    """The prepared data in `out`, made by the tasks of a Ray cluster. Stopped, it goes on with the parts that lack.

    Args:
        workers: parts, and processes of a cluster that has to be begun; unset: as many as there are processors.
    Raises:
        UserError: a source cannot be used, there is no Ray, or machines were lost too often.
    """
    _check(config.sources, out)
    check_target(out, config.sources, overwrite)
    engine, noted = Ray(workers or processors()), parts_folder(out) / JOB
    count = workers or engine.processors
    if workers is None and noted.is_file():
        count = _noted(noted)["job"]["parts"]
    try:
        with _job(config, out, count) as (job, steps), making_folder(out) as folder:
            job.run(engine, steps, folder)
    except KeyboardInterrupt:
        say(f"stopped; what is whole stays in {parts_folder(out)}, and the same command goes on with the rest")
        raise
    remove_parts_folder(parts_folder(out))
    return Prepared.open(out)


def merge(out: Path, config: DataConfig | None = None, *, overwrite: bool = False) -> Prepared | str:
    """Joins what parts have done: after reading into a plan and a vocabulary, after encoding into the prepared data.

    Args:
        config: that of the parts; unset: as they noted it.
    Returns:
        the prepared data, or a sentence that says what comes next.
    Raises:
        UserError: parts are missing; they are named.
    """
    noted = parts_folder(out) / JOB
    _check(config.sources if config else (), out)
    facts = _noted(noted) if noted.is_file() else None
    if config is None and facts is not None:
        config = from_dict(DataConfig, facts["config"])
    if not overwrite and is_done(config, out):
        if facts is None or facts["job"]["options"] == Prepared.open(out).manifest["options"]:
            remove_parts_folder(noted.parent)  # a merge was stopped before it had
        return f"{out} is done already; nothing is left to be merged"
    if config is None or facts is None:
        raise UserError(
            f"no part of {out} has begun; `linnet prepare SOURCES --out {shown(out)} --part K/N` begins part K of N"
        )
    _check(config.sources, out)
    count = facts["job"]["parts"]
    with _job(config, out, count) as (job, steps):
        again = f"`linnet prepare SOURCES --out {shown(out)} --part K/{count}`"
        if not job.has(job.plan_folder, whole=True, heard=said_again):
            _complete(job, job.read_folder, "read", again)
            make_plan(job, steps)
            return f"the plan and the vocabulary are there; next: each part once more, {again}"
        plan = job.left(job.plan_folder)
        assert plan is not None
        _complete(job, job.encoded_folder, "encoded", again, plan[SUM])
        with making_folder(out) as folder:
            join(job, steps, folder)
    remove_parts_folder(parts_folder(out))
    return Prepared.open(out)


def _state(job: Job, folder_of: Callable[[int], Path], done: str, merge: str, plan: str | None = None) -> str:
    if missing := job.missing(folder_of, plan):
        return f"{done}; not yet: {_named(missing, job.count)}; after that {merge}"
    return f"{done}, as are all others; next: {merge}"


def _complete(job: Job, folder_of: Callable[[int], Path], done: str, again: str, plan: str | None = None) -> None:
    damaged: list[str] = []
    if missing := job.missing(folder_of, plan, damaged.append):
        first = f"{damaged[0]}; " if damaged else ""
        raise UserError(f"{first}not {done} yet: {_named(missing, job.count)}; run {again} for each")


def _noted(path: Path) -> dict[str, Any]:
    """What the first part has noted for all.

    Raises:
        UserError: it is damaged.
    """
    try:
        return read_sealed(path)
    except UserError as error:
        raise UserError(f"{error}; delete it, and run any of the parts again, which writes it anew") from error


def _named(parts: Sequence[int], count: int) -> str:
    """The numbers of parts in words: "parts 1, 2 and 4 of 8"."""
    if len(parts) == 1:
        return f"part {parts[0]} of {count}"
    listed = ", ".join(map(str, parts[:-1])) + f" and {parts[-1]}"
    if len(parts) > 12:
        listed = ", ".join(map(str, parts[:12])) + f" and {len(parts) - 12:,} more"
    return f"parts {listed} of {count}"


def _check(sources: Sequence[str], out: Path) -> None:
    """Refuses sources that parts cannot read, and folders with what is neither data nor left by parts.

    Raises:
        UserError: says which, and why.
    """
    if STDIN in sources:
        raise UserError("`-` (standard input) cannot be read in parts; write it to a file, which all parts can read")
    check_target(out, sources, overwrite=True)
    check_parts_folder(parts_folder(out), sources)


@contextlib.contextmanager
def _job(config: DataConfig, out: Path, count: int) -> Iterator[tuple[Job, Steps]]:
    """The job that all parts share, with the sources found by this process.

    Raises:
        UserError: parts of another preparation lie there.
    """
    folder = parts_folder(out)
    with passing_folder(folder) as spool:
        steps = Steps(config, spool)
        job = Job(config, steps.identity, steps.sources, count, folder, stays=True)
        noted = folder / JOB
        if not noted.is_file():
            write_sealed(noted, {"config": asdict(config), "job": job.record()})
        before = _noted(noted)["job"]
        if changed := differences(before, job.record()):
            raise UserError(
                f"{folder} holds parts of another preparation: {changed}; use the same command for all parts, or "
                f"delete {folder} to begin anew"
            )
        yield job, steps
