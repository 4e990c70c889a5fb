"""Supervised fine-tuning: dialogues, of which what the assistant says is learned, each read from its own beginning.

Shapes: B rows, T positions, C n_embd, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from linnet.data.batches import IGNORED
from linnet.errors import UserError
from linnet.evaluate.by_document import windows
from linnet.evaluate.token_losses import losses_of_hidden
from linnet.training.losses import head_loss
from linnet.training.objective import Batch, Objective, Sums

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.model.transformer import Transformer
    from linnet.training.objective import Source

Piece = tuple[int, int, int]
"""(start, end, first): the inputs of a row are the ids start .. end - 1 of a split, the first of which may be the end
of text before it; labels are learned from `first` on"""


class Packed:
    """Whole dialogues, as many to a row as fit; a row never begins within one that fits.

    A dialogue that is longer than a row is divided as it is scored: the first row is full, later ones repeat half a row
    and go on from there, so that each answer is learned once, and none without what was said before it.

    Which dialogues share a row follows from their lengths alone, in the order of a shuffle; the rows come in another
    order each epoch, so a batch is a function of the seed and the number of its first row. Nothing is left out.
    """

    def __init__(self, split: Split, block_size: int, seed: int = 0, *, bare: bool = False) -> None:
        """
        Args:
            block_size: T, positions of a row.
            bare: whether dialogues begin by themselves, as those of published models do: then they do not see the end
                of text before them, and batches have `segment` as well, (count, T) numbers of dialogues.
        Raises:
            UserError: the split has no dialogue, or none in which an assistant says something.
        """
        if split.mask is None:
            raise UserError(
                f"the {split.name} split has no dialogues to tune with; give questions and answers, or learn from the "
                "text with `linnet train --from RUN`"
            )
        self.split, self.block_size, self.seed, self.bare = split, block_size, seed, bare
        self.rows = packed(split, block_size, seed)
        """the pieces of each row"""
        if not self.rows:
            raise UserError(f"the {split.name} split has no answer of an assistant to learn")
        self.longer = sum(int(length) > block_size for length in np.diff(split.offsets.astype(np.int64)))
        """dialogues that are longer than a row"""
        self._order: dict[int, np.ndarray] = {}

    def order(self, epoch: int) -> np.ndarray:
        """(rows,) the rows of an epoch in their order; each occurs once."""
        if epoch not in self._order:
            kept = dict(list(self._order.items())[-1:])  # a batch may lie across the end of an epoch
            self._order = kept | {epoch: shuffled(len(self.rows), self.seed, 1 + epoch)}
        return self._order[epoch]

    def batch(self, first_sample: int, count: int) -> Batch:
        """`count` rows from number `first_sample` on, counted through all epochs: `x` and `y`, (count, T) tokens and
        labels. Rows are filled up with the end of text, which is not learned there."""
        x = np.full((count, self.block_size), self.split.end_of_text, np.int64)
        y = np.full((count, self.block_size), IGNORED, np.int64)
        segment = np.zeros((count, self.block_size), np.int64)
        for row in range(count):
            epoch, place = divmod(first_sample + row, len(self.rows))
            filled = 0
            for number, (start, end, first) in enumerate(self.rows[self.order(epoch)[place]], 1):
                self._put(x[row, filled:], y[row, filled:], start, end, first)
                own = filled + int(first == start)  # the end of text before a dialogue is not of it
                segment[row, own:] = number
                filled += end - start
            segment[row, filled:] += 1
        tensors = {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}
        if self.bare:
            tensors["segment"] = torch.from_numpy(segment)
        return Batch(tensors, {"labels": int((y != IGNORED).sum())})

    def _put(self, x: np.ndarray, y: np.ndarray, start: int, end: int, first: int) -> None:
        """Writes a piece into what is left of a row. Labels are the tokens from `first` on that the mask marks."""
        split = self.split
        assert split.mask is not None
        missing = max(0, -start)  # before the first document there is no end of text, but it begins after one as well
        x[missing : end - start] = split.tokens[start + missing : end]
        marked = split.mask[first + 1 : end + 1] > 0
        y[first - start : end - start] = np.where(marked, split.tokens[first + 1 : end + 1].astype(np.int64), IGNORED)


class Segmented:
    """Another source, with `segment` in its batches: what is mixed in with dialogues that begin by themselves."""

    def __init__(self, source: Source, end_of_text: int) -> None:
        self.source, self.end_of_text = source, end_of_text

    def batch(self, first_sample: int, count: int) -> Batch:
        """The source's batch, and which document each token belongs to."""
        found = self.source.batch(first_sample, count)
        segment = segments(found.tensors["x"], self.end_of_text)
        return Batch({**found.tensors, "segment": segment}, found.divisors)


def packed(split: Split, block_size: int, seed: int) -> list[list[Piece]]:
    """The rows that the documents of `split` fill: each goes into the fullest row that still has room for it."""
    assert split.mask is not None
    rows: list[list[Piece]] = []
    room: dict[int, list[int]] = {}
    """rows by the positions that they have left"""
    for document in shuffled(split.documents, seed, 0).tolist():
        begin, end = int(split.offsets[document]), int(split.offsets[document + 1])
        if not split.mask[begin:end].any():
            continue  # nobody answers: there is nothing to learn
        for start, stop, first in windows(end - begin, block_size):
            # the id before a document is the end of text, as if it were the first of its ids
            piece = begin - 1 + start, begin - 1 + stop, begin - 1 + first
            if not split.mask[piece[2] + 1 : piece[1] + 1].any():
                continue
            needed = stop - start
            least = min((left for left, there in room.items() if left >= needed and there), default=None)
            if least is None:
                row, left = len(rows), block_size
                rows.append([])
            else:
                row, left = room[least].pop(), least
            rows[row].append(piece)
            room.setdefault(left - needed, []).append(row)
    return rows


def shuffled(count: int, seed: int, stream: int) -> np.ndarray:
    """(count,) the numbers 0 .. count - 1 in an order that follows from the seed and the stream alone."""
    # raw draws and a stable sort: numpy promises the same raw draws in every version, not the same shuffles
    draws = np.random.Philox(np.random.SeedSequence([seed, stream])).random_raw(count)
    return np.argsort(draws, kind="stable")


def segments(tokens: Tensor, end_of_text: int) -> Tensor:
    """(B, T) which document each token belongs to: an end of text to the one that it ends."""
    ends = (tokens == end_of_text).long()
    return ends.cumsum(1) - ends


def own_positions(begins: Tensor) -> Tensor:
    """(B, T) the place of each token in its own document, of (B, T) bool that say where documents begin."""
    places = torch.arange(begins.shape[1], device=begins.device)
    return places - torch.where(begins, places, 0).cummax(dim=-1).values


class Answers(Objective):
    """The cross-entropy to what the assistant says. Only where something is learned are there logits at all."""

    def __init__(self, model: Transformer, precision: torch.dtype | None = None) -> None:
        super().__init__(model, precision)
        self.of_answers: Callable[..., Tensor] = answer_loss

    def sums(self, x: Tensor, y: Tensor, segment: Tensor | None = None) -> Sums:  # type: ignore[override]
        """Nats of the labels of (B, T) tokens; with `segment` no token sees another one's."""
        if segment is None:
            hidden = self.model.hidden(x, self._positions(x))
        else:
            same = segment[:, :, None] == segment[:, None, :]
            begins = segment.diff(dim=1, prepend=segment[:, :1]) > 0
            hidden = self.model.hidden(x, own_positions(begins), mask=same.tril()[:, None])
        return Sums({"labels": self.of_answers(self.model, hidden, y)})

    def scores(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As in training: each dialogue has its own positions."""
        return losses_of_hidden(self.model, self.model.hidden(x, self._positions(x)), y)

    def before_compiling(self, leave: Callable[..., Any]) -> None:
        """How many labels there are differs from step to step, which a compiler would compile anew each time."""
        self.of_answers = leave(answer_loss)

    def _positions(self, tokens: Tensor) -> Tensor | None:
        """Rotary positions only count distances; those of a table have to begin with each dialogue."""
        config = self.model.config
        if config.position == "rotary" or config.document_token is None:
            return None
        return own_positions(tokens == config.document_token)


def answer_loss(model: Transformer, hidden: Tensor, y: Tensor) -> Tensor:
    """The sum of -ln p(label) over the positions that have one, in nats: a float32 scalar.

    Args:
        hidden: (B, T, C). y: (B, T) labels, IGNORED where none is learned.
    """
    labels = y.flatten()
    places = (labels != IGNORED).nonzero()[:, 0]
    return head_loss(model, hidden.flatten(0, 1)[places], labels[places])
