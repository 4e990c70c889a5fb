"""Small models with random weights in the layout of the Hugging Face hub, made by `transformers` itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers", reason="published models are made by transformers, the dev extra")

from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

from linnet.tokenizers.hf_json import spell  # noqa: E402
from linnet.tokenizers.patterns import LLAMA3, QWEN2  # noqa: E402

BLOCK = 8192
TEXT = [
    "the cat sat on the mat, and the dog sat on the cat's mat. 1984 was not 2024!",
    "the then hen ten tent he eth hat that at tat cat cath ath heat eat tea team tame mate hate heath thee theme",
    "They'll say hello, HELLO; the quick brown fox isn't quick.\n\n  naïve café in München, 日本語\n",
] * 4

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe a kind bird.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""prints a system prompt of its own where there is none"""

TRIMMED = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""takes white space off contents, and calls a token by its part"""

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{%- if m.role == 'assistant' and not loop.last and '</think>' in m.content %}\n"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}\n{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
"""forgets what an earlier answer thought"""


LOST = bytes([0x00, 0x0D, 0x7F, 0xC0, 0xC1, *range(0xF1, 0x100)])
"""bytes that a published vocabulary may lack, as SmolLM2's lacks some"""


def byte_level(pre_tokenizer: Any, special: list[str], *, size: int = 400, lost: bytes = b"") -> Any:
    """A trained byte-level BPE of the library's own, without tokens for the bytes `lost`."""
    found = tokenizers.Tokenizer(models.BPE())
    found.pre_tokenizer, found.decoder = pre_tokenizer, decoders.ByteLevel()
    alphabet = sorted({*pre_tokenizers.ByteLevel.alphabet()} - {*spell(lost)})
    found.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=1
        ),
    )
    return found


def split_by(pattern: Any) -> Any:
    """The steps of newer vocabularies: a regular expression, then bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern.pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def gpt2_words() -> tuple[Any, dict[str, Any]]:
    words = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    return words, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def smollm_words() -> tuple[Any, dict[str, Any]]:
    cut = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    words = byte_level(cut, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], lost=LOST)
    return words, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": CHATML}


def llama3_words() -> tuple[Any, dict[str, Any]]:
    """As converted from ranks: every way to make a token is a merge, and some tokens no merge makes."""
    trained = json.loads(byte_level(split_by(LLAMA3), []).to_str())
    ranks = {token: id for id, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet())])}
    for left, right in trained["model"]["merges"]:
        ranks.setdefault(left + right, len(ranks))
    merges = []
    for token, rank in ranks.items():
        ways = [(token[:n], token[n:]) for n in range(1, len(token)) if token[:n] in ranks and token[n:] in ranks]
        merges += [(rank, way) for way in sorted(ways, key=lambda way: (ranks[way[0]], ranks[way[1]]))]
    unreached = {"Ġzqxj": len(ranks), "zqxjzq": len(ranks) + 1}
    pairs = [way for _, way in sorted(merges, key=lambda entry: entry[0])]
    words = tokenizers.Tokenizer(models.BPE({**ranks, **unreached}, pairs, ignore_merges=True))
    words.pre_tokenizer, words.decoder = split_by(LLAMA3), decoders.ByteLevel()
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    words.add_special_tokens(names)
    begin = names[0]
    words.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{begin} $A",
                pair=f"{begin} $A {begin} $B:1",
                special_tokens=[(begin, words.token_to_id(begin))],
            ),
        ]
    )
    return words, {"bos_token": begin, "eos_token": "<|eot_id|>", "chat_template": TRIMMED}


def qwen_words() -> tuple[Any, dict[str, Any]]:
    """Characters are composed, and `<think>` is a token wherever it stands."""
    words = byte_level(split_by(QWEN2), [])
    words.normalizer = normalizers.NFC()
    words.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    words.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in ("<think>", "</think>", "<tool>")])
    return words, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": THINKING}


PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
LAYOUT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": BLOCK,
    "rope_parameters": PLAIN_ROPE,
}


def settings_of(kind: str) -> tuple[str, Any, dict[str, Any]]:
    """The class of the model, its vocabulary, and the settings that make it what it is."""
    if kind == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": BLOCK, "layer_norm_epsilon": 1e-4}
        return "GPT2", gpt2_words, shape
    if kind == "smollm2":
        own = {"tie_word_embeddings": True, "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 36}
        return "Llama", smollm_words, {**LAYOUT, **own, "rope_parameters": {**PLAIN_ROPE, "rope_theta": 100_000.0}}
    if kind == "llama3":
        return "Llama", llama3_words, {**LAYOUT, "rms_norm_eps": 1e-5, "attention_bias": True, "mlp_bias": True}
    if kind == "qwen2":
        return "Qwen2", qwen_words, {**LAYOUT, "tie_word_embeddings": True}
    if kind == "qwen3":
        return "Qwen3", qwen_words, {**LAYOUT, "head_dim": 20, "hidden_size": 30, "rms_norm_eps": 1e-3}
    assert kind == "mistral"
    return "Mistral", llama3_words, {**LAYOUT, "sliding_window": None, "head_dim": 12}


KINDS = ("gpt2", "smollm2", "llama3", "qwen2", "qwen3", "mistral")


def publish(kind: str, folder: Path, dtype: torch.dtype = torch.float32, **saving: Any) -> Path:
    """A folder as the hub has it, with weights that are all random, and a vocabulary shorter than the model's."""
    name, words, shape = settings_of(kind)
    library, options = words()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=library, **options)
    ids = {part: getattr(tokenizer, f"{part}_token_id") for part in ("bos", "eos", "pad")}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer) + 7, **shape, **{f"{part}_token_id": id for part, id in ids.items()}
    )
    torch.manual_seed(3)
    model = getattr(transformers, f"{name}{'LMHeadModel' if kind == 'gpt2' else 'ForCausalLM'}")(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            gain = "norm" in parameter_name or ".ln_" in parameter_name
            parameter.normal_(1.0 if gain and parameter_name.endswith("weight") else 0.0, 0.15)
    model.to(dtype).save_pretrained(folder, **saving)
    tokenizer.save_pretrained(folder)
    return folder


def theirs(folder: Path) -> tuple[Any, Any]:
    """The model and the tokenizer as `transformers` loads them, in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    return model.eval(), tokenizer
