# %% [markdown]
# # From text to chat
#
# A language model from nothing, in about five minutes on two cores: text → tokens → training → looking inside →
# conversation. Every step is one call of Linnet's public interface. `pip install -c constraints.txt -e .` in the
# checkout (the README says more) is all that is needed, besides Jupyter: `pip install notebook`.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt

import linnet

MINUTES = 3.5
DOCUMENTS = 60_000
FOLDER = Path("notebook-run")

# %% [markdown]
# ## Tokens
#
# A model reads numbers. A vocabulary is learned from text: it begins with the 256 bytes and joins the pair that
# stands side by side most often, again and again.

# %%
tokenizer = linnet.BPETokenizer.train(["the cat sat on the mat, and the rat sat on the cat"], vocab_size=270)
ids = tokenizer.encode("the cat sat")
print(ids)
print([tokenizer.decode([token]) for token in ids])
assert tokenizer.decode(ids) == "the cat sat"

# %% [markdown]
# ## Text
#
# Linnet brings a small world that makes endless stories and dialogues, so nothing has to be fetched. Put the path
# of your own text, a folder, or a table of questions and answers in the place of the two sources. A part is held
# out, to measure on what was never read in training.

# %%
sources = ("builtin:stories", "builtin:dialogues")
prepared = linnet.prepare(
    linnet.DataConfig(sources=sources, builtin_documents=DOCUMENTS, vocab_size=1280, val_fraction=0.02), FOLDER / "data"
)
training, validation = prepared.split("train"), prepared.split("val")
print(f"{training.documents:,} documents, {len(training.tokens):,} tokens; {validation.documents:,} held out")
print(prepared.tokenizer().decode(training.tokens[:60].tolist()))

# %% [markdown]
# ## The model
#
# A decoder-only transformer: two blocks of attention and an MLP. These are the settings of the recipe
# `linnet-tiny`, which `linnet demo` trains; each of them can be changed here.

# %%
config = linnet.Config(
    model=linnet.ModelConfig(
        n_layer=2,
        n_head=4,
        n_embd=128,
        mlp_hidden=256,
        block_size=192,
        token_shift=2,
        qk_scale=2.0,
        within_documents=True,
    ),
    optim=linnet.OptimConfig(lr=0.05, matrix_lr=0.02, newton_schulz_steps=3),
    schedule=linnet.ScheduleConfig(decay_fraction=1.0),
    train=linnet.TrainConfig(batch_size=12, steps=20_000, max_minutes=MINUTES, sample_prompt="Once", sample_tokens=40),
)
print(config.model)

# %% [markdown]
# ## Training
#
# Weights begin at random; each step reads some windows of text and moves them so that the next token becomes
# likelier. Now and then it is measured on the held-out part, and shows how it writes. Interrupt the cell (■)
# whenever you like: what it had learned is saved, and running the cell again goes on.

# %%
lm = linnet.train(config, data=str(FOLDER / "data"), run=FOLDER / "run")

# %% [markdown]
# ## What it learned
#
# The loss is the surprise at each token, in nats: knowing nothing is the logarithm of the vocabulary's size, 7.15
# here.

# %%
rows = [json.loads(line) for line in (FOLDER / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
for name, look in (("train_loss", "-"), ("val_loss", "o-")):
    points = [(row["step"], row[name]) for row in rows if name in row]
    plt.plot(*zip(*points, strict=True), look)
plt.xscale("log")
plt.xlabel("step")
plt.ylabel("loss (nats per token)")
plt.legend(["training", "held out"])
plt.show()
print(lm.score("Once there was a fox."))

# %% [markdown]
# ## Looking inside
#
# All that the model says of a text is how likely each next token is.

# %%
for token, probability in lm.next_tokens("Once upon a time there was a", k=5):
    print(f"{probability:6.1%}  {token!r}")

# %% [markdown]
# ## Writing
#
# Draw one of the likely tokens, put it behind the text, ask again. `temperature` says how bold the draw is.

# %%
for piece in lm.stream("One sunny day", max_new_tokens=80, temperature=0.8, top_k=40, seed=1):
    print(piece, end="", flush=True)
print()

# %% [markdown]
# ## A conversation
#
# Dialogues are text as well, with tokens that say who speaks. A conversation remembers what was said.

# %%
conversation = lm.conversation(temperature=0.5, max_new_tokens=60, seed=1)
for question in ("Hello!", "What is your name?", "My name is Ben.", "What is my name?"):
    print("you:", question)
    print(" it:", conversation.say(question))

# %% [markdown]
# ## And now
#
# The folder `notebook-run/run` holds the whole run; `linnet chat notebook-run/run` and `linnet report
# notebook-run/run` open it in a terminal and as a page. Your own text: see "Your own text" in the README. How each
# of these steps works, number by number: `docs/how-it-works.md`.
