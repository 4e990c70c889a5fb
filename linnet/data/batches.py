"""Windows of a split as batches. Shapes: n windows or rows, T = block_size positions."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from linnet.data.shards import Split
from linnet.errors import UserError

IGNORED = -100
"""the label of a position that is not learned; the loss does not count it"""

_NOISE = 1
"""tells the draws of noise from those of the order, whose second number is an epoch and which have no third"""

_KEPT_EPOCHS = 2
"""permutations held at a time: a batch may lie across the end of an epoch"""


class Teacher(Protocol):
    """Knows its own probabilities for the next token of a split."""

    def chances(self, positions: np.ndarray) -> np.ndarray:
        """(..., V) float32: the probability that the teacher gives each id at the positions (...) of the split."""


class Batches:
    """Training windows, whose order and whose borders are drawn anew each epoch.

    In the first epoch window w has the inputs tokens[w*T : w*T + T] and, as labels, each one's next token; in later
    ones all windows begin some positions further on, and the text goes round from its end to its beginning. So windows
    of an epoch do not overlap, they cross the borders of documents (end tokens stand there), a ragged end is left out,
    and what is read again is cut elsewhere: always the same windows would be learned by heart sooner.

    Args:
        split: where the tokens are.
        block_size: T, positions of a window.
        seed: decides the order.
        assistant_only: learn only what the mask marks: answers and end tokens; has no effect on text without dialogues.
        noise: the share of inputs that are replaced by tokens from anywhere in the split, drawn anew for each sample;
            labels stay. Little text is learned by heart later so. Source: arXiv:1703.02573.
        kept: ids that noise leaves alone and does not bring in: the special tokens.
        teacher: who says as well how likely each id is at each label's place.
    Raises:
        UserError: the split has fewer tokens than one window needs.
    """

    def __init__(
        self,
        split: Split,
        block_size: int,
        seed: int = 0,
        *,
        assistant_only: bool = False,
        noise: float = 0.0,
        kept: Sequence[int] = (),
        teacher: Teacher | None = None,
    ) -> None:
        if block_size < 1:
            raise UserError(f"block_size is {block_size}; at least 1 is needed")
        self.split, self.block_size, self.seed = split, block_size, seed
        self.mask = split.mask if assistant_only else None
        self.noise, self.kept = noise, np.array([split.end_of_text, *kept])
        self.teacher = teacher
        self.windows = (len(split.tokens) - 1) // block_size
        """number of windows = samples of one epoch"""
        if self.windows < 1:
            raise UserError(
                f"the {split.name} split has {len(split.tokens):,} tokens; one window of block_size {block_size:,} "
                f"needs {block_size + 1:,}; give more text or a smaller block_size"
            )
        self._epochs: dict[int, tuple[np.ndarray, int]] = {}

    def order(self, epoch: int) -> np.ndarray:
        """(windows,) the windows of an epoch in their order; each occurs once."""
        return self._drawn(epoch)[0]

    def offset(self, epoch: int) -> int:
        """Where the first window of an epoch begins, 0 to T - 1."""
        return self._drawn(epoch)[1]

    def _drawn(self, epoch: int) -> tuple[np.ndarray, int]:
        if epoch not in self._epochs:
            # raw draws and a stable sort: numpy promises the same raw draws in every version, not the same shuffles
            draws = np.random.Philox(np.random.SeedSequence([self.seed, epoch])).random_raw(self.windows + 1)
            while len(self._epochs) >= _KEPT_EPOCHS:
                del self._epochs[next(iter(self._epochs))]
            offset = int(draws[-1] % self.block_size) if epoch else 0
            self._epochs[epoch] = np.argsort(draws[:-1], kind="stable"), offset
        return self._epochs[epoch]

    def batch(self, first_sample: int, count: int) -> tuple[np.ndarray, ...]:
        """Inputs, labels, and what the teacher thinks, of the samples first_sample .. first_sample + count - 1.

        Samples are counted through all epochs: number s is window order(s // windows)[s % windows]. The answer
        depends on nothing else, so a run goes on where it stopped, and ranks take disjoint parts of one batch.

        Returns:
            (count, T) inputs and (count, T) labels, both int64; IGNORED where a label is not learned. With a teacher
            (count, T, V) float32 as well.
        """
        epochs, places = np.divmod(np.arange(first_sample, first_sample + count), self.windows)
        starts = np.empty(count, np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            starts[here] = self.order(epoch)[places[here]] * self.block_size + self.offset(epoch)
        positions = (starts[:, None] + np.arange(self.block_size + 1)) % len(self.split.tokens)  # (count, T + 1)
        tokens = self.split.tokens[positions].astype(np.int64)
        x, y = tokens[:, :-1], tokens[:, 1:]
        if self.mask is not None:
            y = np.where(self.mask[positions[:, 1:]] > 0, y, IGNORED)
        if self.noise:
            x = np.stack([self._noisy(row, sample) for sample, row in enumerate(x, first_sample)])
        plain = np.ascontiguousarray(x), np.ascontiguousarray(y)
        return plain if self.teacher is None else (*plain, self.teacher.chances(positions[:, 1:]))

    def _noisy(self, row: np.ndarray, sample: int) -> np.ndarray:
        """The inputs (T,) of a sample, some of them replaced."""
        draws = np.random.Philox(np.random.SeedSequence([self.seed, _NOISE, sample])).random_raw(2 * len(row))
        others = self.split.tokens[(draws[len(row) :] % len(self.split.tokens)).astype(np.int64)].astype(np.int64)
        hit = (draws[: len(row)] >> 11) * 2.0**-53 < self.noise  # as numpy makes numbers in [0, 1) of raw draws
        return np.where(hit & ~np.isin(row, self.kept) & ~np.isin(others, self.kept), others, row)


def evaluation_batches(
    split: Split, block_size: int, batch_size: int, assistant_only: bool = False, *, by_document: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches in which each token of `split` is a label exactly once, in order.

    The first token has the end of text as its context, as if a document ended before it; so there are as many labels as
    tokens. Windows do not overlap: a label has the context that its own window gives.

    Args:
        block_size: T, positions of a window.
        batch_size: the most rows of a batch.
        assistant_only: learn (count) only what the mask marks.
        by_document: windows begin anew with each document, so that none is read in the context of another.
    Returns:
        pairs of (rows, T) inputs and (rows, T) labels, int64; the last pair may have fewer rows. A window that ends
        early is padded with the end of text, its labels there are IGNORED.
    """
    mask = split.mask if assistant_only else None
    spans = _document_spans(split, block_size) if by_document else _spans(0, len(split.tokens), block_size)
    x = np.full((batch_size, block_size), split.end_of_text, np.int64)
    y = np.full((batch_size, block_size), IGNORED, np.int64)
    row = 0
    for first, end in spans:
        labels = split.tokens[first:end].astype(np.int64)
        # at a document's start the token before it is the end of text: of the document before, or of the rule above
        x[row, 0] = split.tokens[first - 1] if first else split.end_of_text
        x[row, 1 : end - first] = labels[:-1]
        y[row, : end - first] = labels if mask is None else np.where(mask[first:end] > 0, labels, IGNORED)
        row += 1
        if row == batch_size:
            yield x, y
            x, y = np.full_like(x, split.end_of_text), np.full_like(y, IGNORED)
            row = 0
    if row:
        yield x[:row], y[:row]


def _spans(start: int, end: int, block_size: int) -> Iterator[tuple[int, int]]:
    for first in range(start, end, block_size):
        yield first, min(first + block_size, end)


def _document_spans(split: Split, block_size: int) -> Iterator[tuple[int, int]]:
    for document in range(split.documents):
        yield from _spans(int(split.offsets[document]), int(split.offsets[document + 1]), block_size)
