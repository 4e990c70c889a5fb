"""From sources to a folder of prepared data: survey, tokenizer, encoding. Each passes over all documents, as a stream.

The folder appears when everything in it is written and on disk; until then it does not exist, or is the old one.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from linnet.console import progress, say
from linnet.data.account import Account
from linnet.data.hub import PREFIX
from linnet.data.options import DataConfig
from linnet.data.plan import SPLITS, Plan
from linnet.data.prepared import Prepared
from linnet.data.readers import Document
from linnet.data.remote import is_remote
from linnet.data.shards import MANIFEST, MANIFEST_FORMAT, TEMPLATE, TOKENIZER, is_file_of_a_split
from linnet.data.sources import STDIN
from linnet.data.split_writer import SplitWriter
from linnet.data.splitting import Survey
from linnet.data.steps import Steps, write_documents
from linnet.errors import UserError
from linnet.files import making_folder, read_json
from linnet.settings import shown
from linnet.tokenizers import ChatTemplate, Tokenizer

_SPOOL = "spool"
"""folder for what is read several times, gone when the data is complete"""

PAYS_BYTES = 8_000_000
"""of sources, from which on several processes are done sooner than one, although each has to start first"""


def prepare(
    config: DataConfig,
    out: str | Path,
    *,
    identity: Sequence[tuple[str, str]] = (),
    overwrite: bool = True,
    workers: int | None = None,
) -> Prepared:
    """The prepared data in the folder `out`, which is written whole or not at all.

    It holds, for each split: `NAME.bin` (tokens), `NAME.idx` (where documents begin), `NAME.mask` (which tokens are
    learned when only answers are; with dialogues); and `tokenizer.json`, `template.jinja` (with dialogues),
    `manifest.json`. The tokenizer learns from the training split only. The same sources and config give the same
    bytes, the manifest's date aside.

    Args:
        out: a new folder, an empty one, or older prepared data.
        identity: questions and answers that are always in training and never in validation; added to those of
            `config.identity`.
        overwrite: whether older prepared data in `out` is replaced; nothing else ever is.
        workers: processes that share the work where there is much; the bytes are the same with any number. Unset: one
            for each core in `linnet` commands, one in a script. A script that asks for several needs the line
            `if __name__ == "__main__":` before what it does.
    Raises:
        UserError: a source cannot be used, there is too little text, `out` holds something else (or older data that is
            to stay) or cannot be written.
    """
    out = Path(out)
    check_target(out, config.sources, overwrite)
    try:
        with making_folder(out) as folder:
            spool = folder / _SPOOL
            spool.mkdir()
            steps = Steps(config, spool, identity)
            if workers == 1 or steps.bytes < PAYS_BYTES or not _in_processes(steps, spool, folder, workers):
                _in_one_process(steps, spool, folder)
            shutil.rmtree(spool)
    except KeyboardInterrupt:
        say(f"stopped; nothing was written to {out}")
        raise
    return Prepared.open(out)


def check_target(out: Path, sources: Sequence[str], overwrite: bool) -> None:
    """Refuses to replace what is not prepared data, what is itself a source, or data that is to stay."""
    target = os.path.realpath(out)  # unlike a Path's `resolve`, it takes links in a circle
    for spec in sources:
        place = Path(os.path.realpath(spec))
        is_path = (
            spec != STDIN and not spec.startswith(("builtin:", PREFIX)) and not is_remote(spec)
        )  # "C:\\texts" is one too
        if is_path and Path(target) in (place, *place.parents):
            raise UserError(f"the source {shown(spec)} lies in {out}, which would be replaced; choose another folder")
    if not os.path.exists(out):
        if os.path.islink(out):
            raise UserError(f"{out} is a link that leads nowhere; choose a folder that does not exist yet")
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder that does not exist yet")
    inside = {path.name for path in out.iterdir()}
    foreign = {name for name in inside - {MANIFEST, TOKENIZER, TEMPLATE} if not is_file_of_a_split(name, SPLITS)}
    if inside and (foreign or MANIFEST not in inside or not _is_ours(out)):
        raise UserError(f"{out} is not empty and no prepared data; choose a folder that does not exist yet")
    if inside and not overwrite:
        raise UserError(f"{out} holds prepared data already; `--overwrite` replaces it, or choose another folder")


def _is_ours(out: Path) -> bool:
    manifest = read_json(out / MANIFEST)
    return isinstance(manifest, dict) and manifest.get("format") == MANIFEST_FORMAT


def _in_processes(steps: Steps, spool: Path, folder: Path, workers: int | None) -> bool:
    """Whether several processes have done all of it, which a single one would do sooner by itself."""
    from linnet.data.engines import Processes, usual_workers  # a small text does without
    from linnet.data.parts import Job

    count = workers or usual_workers()
    if count > 1:
        Job(steps.config, steps.identity, steps.sources, count, spool / "parts").run(Processes(), steps, folder)
    return count > 1


def _in_one_process(steps: Steps, spool: Path, folder: Path) -> None:
    survey = Survey(spool / "survey", steps.config)
    with progress("reading", steps.bytes, "bytes") as bar:
        survey.read(steps.reader.documents(bar.advance))
    plan = survey.plan()
    account = Account(steps.config, steps.reader, steps.unread, plan)
    account.say()
    tokenizer, learned = steps.tokenizer(plan, survey.dialogues)
    template = steps.template if survey.dialogues else None
    splits = _encode(steps, folder, plan, tokenizer, template)
    records = [source.record() for source in steps.sources]
    steps.complete(folder, account, (tokenizer, learned), template, splits, records)


def _encode(
    steps: Steps, folder: Path, plan: Plan, tokenizer: Tokenizer, template: ChatTemplate | None
) -> dict[str, Any]:
    """Writes the shards; returns what the manifest says of each split."""
    names = [name for place, name in enumerate(SPLITS) if plan.holds(place)]
    count = 0

    def numbered(documents: Iterator[Document]) -> Iterator[tuple[int, Document]]:
        nonlocal count
        for index, document in enumerate(documents):
            count += 1
            if index >= plan.documents:
                return
            yield index, document

    with ExitStack() as stack, progress("encoding", steps.bytes, "bytes") as bar:
        most = steps.config.shard_tokens
        writers = {name: SplitWriter(folder, name, tokenizer, template, stack, most) for name in names}
        write_documents(numbered(steps.reader.documents(bar.advance)), plan, writers)
        if count != plan.documents:
            raise UserError("the sources changed while they were read; prepare again when they are complete")
    return {name: writer.facts() for name, writer in writers.items()}
