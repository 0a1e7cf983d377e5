"""Train a model from Hugging Face further, on a text of yours.

    python examples/finetune_gpt2.py FOLDER TEXT [--out runs/finetuned]

FOLDER holds config.json, model.safetensors and tokenizer.json, as huggingface.co/openai-community/
gpt2 does; so do Llama, Mistral, Qwen and their kin. Where huggingface_hub is installed, a name such
as openai-community/gpt2 will do. TEXT is a file in UTF-8; its last tenth is held out, to see what
the model makes of a text like yours that it has not learnt from.

Without a network, make a small one first. This takes half a minute:

    python examples/train_shakespeare.py --text play --tokenizer bpe --vocab-size 512
        --no-qk-norm --activation swiglu --steps 100 --eval-interval 100 --out runs/small

then, in Python:

    from tinygpt import GPT, checkpoint, tokenizers
    _, meta, _ = checkpoint.load("runs/small/best", groups=())
    tokenizer = tokenizers.from_dict(meta["tokenizer"])
    GPT.load("runs/small/best").export("runs/small-folder", tokenizer)

and train it further on a text that is nothing like the first:

    python examples/finetune_gpt2.py runs/small-folder README.md

Prints, of that, where "..." is near 8 at first and near 5 in the end:
    llama, 869,504 parameters; ... tokens to learn from, ... held out, windows of 64
    before:   held-out loss ... nats per token
    step  20: held-out loss ...
    step  40: held-out loss ...
    step  60: held-out loss ..., which is ... less than before
    runs/finetuned is a folder like the first: GPT.from_pretrained and transformers load it
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path

from tinygpt import GPT, AdamW, accumulate_gradients, data, evaluate, huggingface, tokenizers
from tinygpt.backend import resolve_device
from tinygpt.commands.command_line import Parser, natural, positive, run
from tinygpt.optim import warmup_cosine

# What else a folder may say, and training does not change: which token ends a text, how one chats.
KEPT = ("generation_config.json", "tokenizer_config.json", "chat_template.jinja")


def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    folder = huggingface.find_folder(options.folder)
    model = GPT.from_pretrained(folder, resolve_device(options.device))
    tokenizer = tokenizers.load(folder / "tokenizer.json")
    family = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]

    text = data.read_text(options.text)
    tokens, held_out = data.split(tokenizer.encode_array(text, allowed_special="all"))
    T = min(options.block_size, model.config.block_size, len(tokens) - 1)
    print(
        f"{family}, {model.config.parameter_count:,} parameters; {len(tokens):,} tokens to learn "
        f"from, {len(held_out):,} held out, windows of {T}"
    )

    def held_out_loss():
        return evaluate(model.loss, *data.windows(held_out, T))

    loader = data.Loader(tokens, T, options.batch_size, seed=options.seed)
    optimizer = AdamW(model.parameters(), lr=options.lr, weight_decay=0.1)
    pieces = None  # as many as suit this machine
    if options.micro_batch_size is not None:
        pieces = math.ceil(options.batch_size / options.micro_batch_size)
    before = held_out_loss()
    print(f"before:   held-out loss {before:.2f} nats per token")

    for step in range(1, options.steps + 1):
        ids, targets = next(loader)
        dropout = (options.seed, step)  # as the model's config has it; the Llama family has none
        accumulate_gradients(model.loss, ids, targets, rng=dropout, micro_batches=pieces)
        optimizer.clip_grad_norm(1.0)
        optimizer.step(warmup_cosine(step, options.steps, warmup=options.steps // 10))
        optimizer.zero_grad()

        if step == options.steps:
            after = held_out_loss()
            less = f"{before - after:.2f} less" if after < before else f"{after - before:.2f} more"
            print(f"step {step:3}: held-out loss {after:.2f}, which is {less} than before")
        elif step % 20 == 0:
            print(f"step {step:3}: held-out loss {held_out_loss():.2f}")

    model.export(options.out, tokenizer)
    for name in KEPT:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, Path(options.out) / name)
    print(f"{options.out} is a folder like the first: GPT.from_pretrained and transformers load it")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description="Train a model from Hugging Face further, on a text of yours.")
    add = parser.add_argument
    add("folder", help="config.json, model.safetensors, tokenizer.json; or a name on the hub")
    add("text", help="a file in UTF-8")
    add("--out", metavar="DIR", default="runs/finetuned", help="default: runs/finetuned")
    add("--steps", type=positive(int), default=60, help="default: 60")
    add("--batch-size", type=positive(int), default=8, help="sequences per step (default: 8)")
    add(
        "--micro-batch-size",
        type=positive(int),
        metavar="N",
        help="sequences at once: fewer take less memory, and give the same gradient",
    )
    add("--block-size", type=positive(int), default=256, help="tokens per sequence (default: 256)")
    add("--lr", type=positive(float), default=1e-4, help="peak learning rate (default: 1e-4)")
    add("--seed", type=natural, default=0)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run(main))
