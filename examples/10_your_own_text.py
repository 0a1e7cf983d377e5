"""Train on your own text:   python examples/10_your_own_text.py [FILE]

FILE is any text in UTF-8. Without one, a text as short as a long README is used, to show what such
a text does: a model learns it by heart. The loss on the text it trains on falls and falls; the loss
on text it has not seen falls, turns, and rises. What is kept is the model at the turn, in
runs/own-text, from which 11_generate.py lets it write.

Prints:
    x
"""

import math
import sys

from tinygpt import GPT, AdamW, GPTConfig, accumulate_gradients, data, evaluate, tokenizers

FOLDER = "runs/own-text"


def main(file=None, steps=300, folder=FOLDER):
    text = data.read_text(file) if file else data.play(characters=5_000)
    tokenizer = tokenizers.Char.train(text)
    tokens, validation = data.split(tokenizer.encode_array(text))
    print(f"{len(text):,} characters, {tokenizer.vocab_size} different ones")

    model = GPT(GPTConfig(tokenizer.vocab_size, block_size=64, n_layer=2, n_head=4, n_embd=96, position="rope"))
    loader = data.Loader(tokens, block_size=64, batch_size=16)
    optimizer = AdamW(model.parameters(), lr=4e-3)
    best = math.inf

    for step in range(1, steps + 1):
        ids, targets = next(loader)
        accumulate_gradients(model.loss, ids, targets)
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()

        if step % 50 == 0 or step == steps:
            seen = evaluate(model.loss, *data.windows(tokens, 64))
            unseen = evaluate(model.loss, *data.windows(validation, 64))
            note = ""
            if unseen < best:
                best, note = unseen, ", saved"
                model.save(folder, tokenizer)
            print(f"step {step:3}: loss {seen:.1f}, on text it has not seen {unseen:.1f}{note}")

    print(f"next: python examples/11_generate.py {folder}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("give one text file, or nothing")
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
