"""Train on your own text:   python examples/10_your_own_text.py [FILE]

FILE is any text in UTF-8. Without one, a page of the play shows what a short text does: the model
learns it by heart. The loss on the text it trains on falls and falls; the loss on text it has not
seen falls, turns, and rises. What is kept, in runs/own-text, is the model at the turn.

Prints:
    3,000 characters, 55 different ones
    step  60: loss 1.6, on text it has not seen 1.8, saved
    step 120: loss 0.9, on text it has not seen 1.5, saved
    step 180: loss 0.5, on text it has not seen 1.8
    step 240: loss 0.3, on text it has not seen 2.1
    next: python examples/11_generate.py runs/own-text
"""

import math
import sys

from tinygpt import GPT, AdamW, GPTConfig, accumulate_gradients, data, evaluate, tokenizers

FOLDER = "runs/own-text"


def main(file=None, steps=240, folder=FOLDER):
    text = data.read_text(file) if file else data.play(characters=3_000)
    tokenizer = tokenizers.Char.train(text)
    tokens, validation = data.split(tokenizer.encode_array(text))
    print(f"{len(text):,} characters, {tokenizer.vocab_size} different ones")

    T = 64  # characters it sees at once
    model = GPT(GPTConfig(tokenizer.vocab_size, T, n_layer=2, n_head=4, n_embd=96, position="rope"))
    loader = data.Loader(tokens, T, batch_size=16)
    optimizer = AdamW(model.parameters(), lr=4e-3)
    best = math.inf

    for step in range(1, steps + 1):
        ids, targets = next(loader)
        accumulate_gradients(model.loss, ids, targets)
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()

        if step % 60 == 0 or step == steps:
            seen = evaluate(model.loss, *data.windows(tokens, T))
            unseen = evaluate(model.loss, *data.windows(validation, T))
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
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
