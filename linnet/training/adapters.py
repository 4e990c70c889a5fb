"""Adapters in training: the base that stays, what learns beside it, and the folder that others can use."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import numpy as np
import torch

from linnet.errors import UserError
from linnet.files import making_folder, sha256, write_bytes, write_json
from linnet.model.lora import OTHER_TABLES, add_adapters
from linnet.model.weights import load_weights, serialised, weights_of
from linnet.run import Run
from linnet.run.adapter import ADAPTER, FACTS, AdapterFacts
from linnet.run.checkpoints import whole_one_called
from linnet.run.weights import BASE, base_of
from linnet.tokenizers.base import END_OF_TEXT

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer
    from linnet.training.ancestor import Ancestor
    from linnet.training.lesson import Lesson

FOLDER = "adapter"
"""of a run: its best adapter, as it can be handed on"""

AT_ONCE = 1 << 24
"""ids of a text that are looked through at a time"""


def begin(model: Transformer, run: Run, lesson: Lesson, ancestor: Ancestor | None) -> None:
    """Gives `model` adapters and freezes the rest; its weights are those that the run keeps as its base.

    Raises:
        UserError: there is no trained model to learn beside, or the base is damaged.
    """
    if not (run.path / FACTS).exists():
        if ancestor is None:
            raise UserError("adapters learn beside a trained model; name it with --from, or use `linnet tune RUN`")
        keep_base(model, run, lesson, ancestor)
    else:
        load_weights(model, base_of(run.path))
    facts = AdapterFacts.read(run.path / FACTS)
    add_adapters(model, lesson.config.adapter.rank, facts.scale, facts.row_ids)


def keep_base(model: Transformer, run: Run, lesson: Lesson, ancestor: Ancestor) -> None:
    """Puts the weights that stay into the run, so that it holds all that it needs."""
    weights = weights_of(model)
    for name, table in weights.items():
        if name.endswith(OTHER_TABLES):  # whoever has the adapter alone does not know what was drawn for new ids
            table[ancestor.shape.vocab_size :] = 0
    write_bytes(run.path / BASE, serialised(weights))
    facts = AdapterFacts(
        base=ancestor.run.path.resolve().name,
        base_sha256=ancestor.weights_sha256,
        scale=lesson.config.adapter.scale,
        row_ids=tuple(sorted({*unshown_ids(lesson.tokenizer, ancestor), *used_ids(lesson.train, ancestor)})),
        sha256=sha256(run.path / BASE),
    )
    write_json(run.path / FACTS, facts.as_dict())


def unshown_ids(tokenizer: Tokenizer, ancestor: Ancestor) -> tuple[int, ...]:
    """The marks of a chat, where the model has never met them: their rows say nothing yet, and have to learn."""
    if ancestor.run.template() is not None:
        return ()
    return tuple(sorted(id for name, id in tokenizer.special_ids.items() if name != END_OF_TEXT))


def used_ids(split: Split, ancestor: Ancestor) -> tuple[int, ...]:
    """The ids of what a model that was trained here is tuned with: it is so small that beside rows that stay, adapters
    learn less than all weights do, and cannot say words that are new to it. Of an imported model none: it has met all
    words, and its tables are large."""
    if not isinstance(ancestor.run, Run):
        return ()
    pieces = (split.tokens[at : at + AT_ONCE] for at in range(0, len(split.tokens), AT_ONCE))
    return tuple(sorted({id for piece in pieces for id in np.unique(piece).tolist()}))


def half_as_wide(model: Transformer) -> None:
    """Keeps what is frozen in bfloat16, half the memory, where products are in it anyway; in place."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)


def hand_on(run: Run) -> None:
    """Writes the best adapter of `run` into a folder of its own, with what its dialogues were written with."""
    checkpoint = whole_one_called("best", run.checkpoints(), run.path)
    facts = AdapterFacts.read(run.path / FACTS)
    with making_folder(run.path / FOLDER) as folder:
        shutil.copyfile(checkpoint.path / ADAPTER, folder / ADAPTER)
        shutil.copyfile(run.tokenizer_file, folder / run.tokenizer_file.name)
        if run.template_file.exists():
            shutil.copyfile(run.template_file, folder / run.template_file.name)
        write_json(folder / FACTS, dataclasses.replace(facts, sha256=sha256(folder / ADAPTER)).as_dict())
