"""The wrong code of each trap: (trap, file, right text, wrong text).

`test_mutations.py` sees the tests of the trap fail on it.
"""

MUTATIONS = [
    # each micro-batch averaged over its own labels
    (
        1,
        "training/loop.py",
        "totals.loss(sums, scaler.scale * self.ranks.count)",
        "Totals({'labels': int((tensors['y'] >= 0).sum())}).loss(sums, scaler.scale)",
    ),
    # not divided by the number of micro-batches, so that clipping bites harder
    (
        2,
        "training/loop.py",
        "totals.loss(sums, scaler.scale * self.ranks.count)",
        "totals.loss(sums, scaler.scale * len(micro_batches))",
    ),
    # gradients meet after each micro-batch but the last
    (
        3,
        "training/ranks.py",
        "nullcontext() if last or quiet is None else quiet()",
        "nullcontext() if not last or quiet is None else quiet()",
    ),
    # they meet after each
    (3, "training/ranks.py", "nullcontext() if last or quiet is None else quiet()", "nullcontext()"),
    # clipped before it is unscaled
    (
        4,
        "training/loop.py",
        "scaler.unscale(parameters)\n            norm = clip_gradients(parameters, self.config.train.clip, "
        "self.ranks.norm)",
        "norm = clip_gradients(parameters, self.config.train.clip)\n            scaler.unscale(parameters)",
    ),
    # the resumed run begins with the first window again
    (5, "training/checkpoint.py", "if name in known})", "if name in known and name != 'samples'})"),
    # the optimiser's state is not restored
    (5, "training/optim.py", "tensor.copy_(saved[name])", "tensor.zero_()"),
    # dropout goes on from wherever the stream stands
    (5, "training/loop.py", "torch.manual_seed(mixed(", "hash(("),
    # evaluation draws a number, and dropout is not seeded by step
    (6, "evaluate/loss.py", "    began = clock()\n    batches", "    torch.rand(1)\n    began = clock()\n    batches"),
    # only the last checkpoint is kept
    (
        7,
        "training/checkpoint.py",
        'keep = {run.checkpoint("best").path, *(checkpoint.path for checkpoint in found[-keep_last:])}',
        "keep = {checkpoint.path for checkpoint in found[-keep_last:]}",
    ),
    # windows drawn with replacement
    (8, "data/batches.py", 'np.argsort(draws[:-1], kind="stable")', "(draws[:-1] % self.windows).astype(np.int64)"),
    # every rank drops out the same
    (9, "training/loop.py", "place = self.ranks.rank * len(micro_batches) + number", "place = number"),
    # every micro-batch of a step does
    (9, "training/loop.py", "place = self.ranks.rank * len(micro_batches) + number", "place = self.ranks.rank"),
    # every sample has the same noise
    (9, "data/batches.py", "[self.seed, _NOISE, sample]", "[self.seed, _NOISE]"),
    # duplicates are not dropped
    (10, "data/splitting.py", "sides.drop_duplicates()", "pass"),
    # labels shifted once more
    (11, "training/next_token.py", "y.flatten(), in_pieces)", "y.roll(-1, dims=1).flatten(), in_pieces)"),
    # padding counts
    (12, "training/losses.py", "ignore_index=IGNORED", "ignore_index=31"),
    # everything is the assistant's
    (13, "tokenizers/template.py", "first_special and ", ""),
    # a batch without labels divides by zero
    (14, "training/objective.py", "{name: max(count, 1) for", "{name: count for"),
    (14, "evaluate/loss.py", "    if tokens == 0:", "    if False:"),
    # dropout in evaluation
    (15, "model/modes.py", "        model.eval()", "        pass"),
    # saved as the compiler's wrapper names them
    (16, "model/weights.py", "return {name: parameter.detach()", 'return {f"_orig_mod.{name}": parameter.detach()'),
    # what is not known is skipped
    (
        16,
        "model/weights.py",
        "    for name in sorted(wanted.keys() - saved.keys()):\n        raise",
        "    wanted = {name: p for name, p in wanted.items() if name in saved}\n"
        "    saved = {name: tensor for name, tensor in saved.items() if name in wanted}\n"
        "    for name in sorted(wanted.keys() - saved.keys()):\n        raise",
    ),
    # a tied head gets a matrix of its own
    (
        17,
        "model/weights.py",
        "        parameter.data.copy_(saved[name])",
        "        parameter.data.copy_(saved[name])\n"
        "    model.lm_head.weight = type(parameter)(model.lm_head.weight.clone())",
    ),
    # written in place, the manifest before the weights
    (
        18,
        "training/checkpoint.py",
        "    with making_folder(folder) as building:",
        "    from contextlib import nullcontext\n\n"
        "    folder.mkdir(parents=True)\n"
        "    write_json(folder / 'manifest.json', {'sha256': {'model.safetensors': ''}})\n"
        "    with nullcontext(folder) as building:",
    ),
    # loads whatever pickle gives
    (
        19,
        "run/model_folder.py",
        "return safetensors.torch.load_file(path)",
        "return __import__('pickle').loads(path.read_bytes())",
    ),
    # 16 bits for every vocabulary
    (20, "data/shards.py", "vocab_size <= 1 << 16", "vocab_size <= 1 << 17"),
    # tokens decoded one by one
    (
        21,
        "generate/streaming.py",
        "self._decoder.decode(self._tokenizer.token_bytes(token))",
        'self._tokenizer.token_bytes(token).decode("utf-8", errors="replace")',
    ),
    # the token that crosses p is dropped
    (23, "generate/sampling.py", "reached.roll(1, dims=-1)", "reached.clone()"),
    # no token is kept at p = 0
    (23, "generate/sampling.py", "    dropped[:, 0] = False\n", ""),
    # negative logits are divided too
    (24, "generate/sampling.py", ".where(logits > 0, logits * penalty)", ""),
    # a turn is continued as if nothing had changed before it
    (
        25,
        "generate/engine.py",
        "held = [common_prefix(ids, window[:-1]) for",
        "held = [min(len(ids), len(window) - 1) for",
    ),
    # the token behind an answer is known by one name alone
    (13, "tokenizers/template.py", "own = behind if len(behind) == 1 else set()", "own = set()"),
    # a shorter row stands where the longest does
    (
        26,
        "generate/cache.py",
        "return positions, mask[:, None, None]",
        "return slice(self.start, self.end), mask[:, None, None]",
    ),
    # a shorter row looks at what only the longer ones hold
    (26, "generate/cache.py", "<= positions  # (B, S)", "<= positions.amax() + 0 * positions"),
    # padding is what the first id follows
    (26, "generate/engine.py", "[length - 1 for length in lengths]", "[longest - 1] * len(lengths)"),
    # combining marks count as letters
    (29, "tokenizers/pretokenize.py", r" ?\p{L}+", r" ?[\p{L}\p{M}]+"),
    # a word that is in the vocabulary is put together from characters
    (29, "tokenizers/plain.py", "ignore_merges=self.WHOLE_PIECES", "ignore_merges=False"),
    # the pattern loses its look-ahead
    (29, "tokenizers/pretokenize.py", r"|\s+(?!\S)", ""),
    # counts of 32 bits
    (30, "tokenizers/pairs.py", "self.weights.extend([count] *", "self.weights.extend([count & 0xFFFFFFFF] *"),
    # sums of 32 bits
    (
        30,
        "tokenizers/pairs.py",
        "self.counts[pair] = self.counts.get(pair, 0) + self.weights[place]",
        "self.counts[pair] = (self.counts.get(pair, 0) + self.weights[place]) & 0xFFFFFFFF",
    ),
    # sums of 64 bits, after a merge
    (
        30,
        "tokenizers/pairs.py",
        "counts[key] = counts.get(key, 0) + weight",
        "counts[key] = (counts.get(key, 0) + weight) & 0xFFFFFFFFFFFFFFFF",
    ),
    # speed divides by a stamp
    (32, "evaluate/speed.py", "timed.append((clock() - began, tokens))", "timed.append((clock(), tokens))"),
]
