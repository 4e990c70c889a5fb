"""Adapters beside a published model of 135 million parameters: Linnet beside TRL and PEFT on the same work.

    python benchmarks/lora.py --trl PYTHON            # an interpreter with trl, peft and transformers
    python benchmarks/lora.py --steps 6 --rounds 3

Both sides get the same folder in the hub's layout (SmolLM2-135M's shape, random weights), the same dialogues, which
fill nearly a whole row each, so that packing is no advantage, the same rank on all projections of the blocks, the same
rows a step, the same precision (weights in bfloat16 where the processor multiplies it, adapters in float32), and learn
the answers alone. Sides take turns; each turn is a process of its own. The first steps of a turn are not counted.
"""

import argparse
import datetime
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "lora.json"
RANK, ROWS, LENGTH = 16, 4, 512
WARM = 2
"""steps at the beginning of a turn, which are not counted"""

TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

WORDS = "the a small bird sings in old tree near quiet river while children play and watch clouds drift over".split()


def make_folder(folder: Path) -> None:
    """SmolLM2-135M's shape with random weights, and a tokenizer that is learned from the dialogues' words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 10, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)


def make_dialogues(file: Path, count: int) -> None:
    """Dialogues of about `LENGTH` tokens: a question, and an answer of three times its length."""
    source = random.Random(0)

    def words(number: int) -> str:
        return " ".join(source.choice(WORDS) for _ in range(number))

    rows = []
    for _ in range(count):
        question, answer = words(100), words(340)
        rows.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def linnet_turn(model: Path, data: Path, steps: int, work: Path) -> dict[str, Any]:
    """One tuning by Linnet's own loop, as `linnet tune` wires it."""
    from dataclasses import replace

    from linnet.training import tuning
    from linnet.training.ancestor import Ancestor
    from linnet.training.pretrain import Training

    ancestor = Ancestor.open(model)
    asked = ancestor.applied(tuning.unmeasured())
    config, prepared = tuning.prepared(asked, str(data), work / "run", ancestor, (), False)
    config, _ = tuning.measured((config, prepared), ancestor, lora=RANK, minutes=None)
    config = replace(
        config,
        model=replace(config.model, block_size=LENGTH),
        adapter=replace(config.adapter, rank=RANK),
        train=replace(config.train, batch_size=ROWS, steps=steps, sample_tokens=0, compile="off"),
    )
    training = Training(config, prepared, work / "run", [], ancestor)
    source, state = training.lesson.source, training.state
    from linnet.training.loop import Loop

    state.objective.train()
    times, tokens, began = [], [], time.perf_counter()
    for row in Loop(state, source, config, training.budget):
        times.append(time.perf_counter() - began)
        batch = source.batch((row.step - 1) * ROWS, ROWS)
        end = state.objective.model.config.end_of_text
        tokens.append(int((batch.tensors["x"] != end).sum()) + ROWS)
        began = time.perf_counter()
    from linnet.model.lora import adapter_of

    return told(times, tokens, sum(tensor.numel() for tensor in adapter_of(state.objective.model).values()))


def trl_turn(model: Path, data: Path, steps: int, work: Path) -> dict[str, Any]:
    """The same by TRL's SFTTrainer with PEFT's adapters."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = [json.loads(line)["messages"] for line in data.read_text(encoding="utf-8").splitlines()]
    pairs = Dataset.from_list([{"prompt": row[:1], "completion": row[1:]} for row in rows])
    half = torch.cpu._is_amx_tile_supported()
    kept = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16 if half else torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **more: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *args: Any, **more: Any) -> None:
            times.append(time.perf_counter() - self.began)

    settings = SFTConfig(
        output_dir=str(work / "out"),
        max_steps=steps,
        per_device_train_batch_size=ROWS,
        max_length=LENGTH,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=half,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        completion_only_loss=True,
        dataloader_pin_memory=False,
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names, task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=kept,
        args=settings,
        train_dataset=pairs,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[Clock()],
    )
    counted: list[int] = []
    compute = trainer.compute_loss

    def counting(model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        mask = inputs.get("attention_mask")
        counted.append(int(inputs["input_ids"].numel() if mask is None else mask.sum()))
        return compute(model, inputs, *args, **more)

    trainer.compute_loss = counting
    trainer.train()
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return told(times, counted, trained)


def told(times: list[float], tokens: list[int], trained: int) -> dict[str, Any]:
    """The figures of a turn."""
    speeds = [count / seconds for count, seconds in zip(tokens[WARM:], times[WARM:], strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "tokens_per_s": statistics.median(speeds),
        "step_s": statistics.median(times[WARM:]),
        "tokens_a_step": statistics.mean(tokens),
        "peak_bytes": peak,
        "trained": trained,
    }


def turn(side: str, python: str, paths: list[str]) -> dict[str, Any]:
    """A turn of one side in a process of its own; it is a fork of a small one, so that its peak is its own."""
    script = [python, str(Path(__file__).resolve()), "--turn", side, *paths]
    ran = subprocess.run(script, capture_output=True, text=True, env=os.environ)
    if ran.returncode:
        sys.exit(f"{side} failed:\n{ran.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    print(f"{side}: {found['tokens_per_s']:.0f} tokens/s, peak {found['peak_bytes'] / 1e9:.2f} GB", flush=True)
    return found


def main() -> None:
    """Both sides in turn, and the ratios of neighbours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trl", help="an interpreter that has trl, peft, transformers and datasets")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", nargs=5, metavar=("SIDE", "MODEL", "DATA", "STEPS", "WORK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        side, model, data, steps, work = args.turn
        take = linnet_turn if side == "linnet" else trl_turn
        print(json.dumps(take(Path(model), Path(data), int(steps), Path(work))))
        return
    if args.trl is None:
        parser.error("--trl PYTHON names the other side's interpreter")
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        published, data, imported = work / "published", work / "dialogues.jsonl", work / "imported"
        make_folder(published)
        make_dialogues(data, args.steps * ROWS)
        subprocess.run([sys.executable, "-m", "linnet", "import", str(published), "--run", str(imported)], check=True)
        for number in range(args.rounds):
            both = {}
            for side, python, model in (("linnet", sys.executable, imported), ("trl", args.trl, published)):
                place = work / f"{side}-{number}"
                both[side] = turn(side, python, [str(model), str(data), str(args.steps), str(place)])
            rounds.append(both)
    faster = [both["linnet"]["tokens_per_s"] / both["trl"]["tokens_per_s"] for both in rounds]
    memory = [both["linnet"]["peak_bytes"] / both["trl"]["peak_bytes"] for both in rounds]
    found = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "work": f"135M parameters, rank {RANK}, {ROWS} rows of {LENGTH}",
        "rounds": rounds,
        "speed_ratio": {"median": statistics.median(faster), "least": min(faster), "most": max(faster)},
        "memory_ratio": {"median": statistics.median(memory), "least": min(memory), "most": max(memory)},
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"Linnet / TRL: speed {found['speed_ratio']}, memory {found['memory_ratio']}; in {RESULTS}")


if __name__ == "__main__":
    main()
