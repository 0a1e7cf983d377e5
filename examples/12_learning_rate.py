"""What the learning rate does: the same model, the same batches, only the steps are longer.

Too short, and the model has hardly moved when the steps are used up. Too long, and each step throws
away what the last one found. Between them is a valley, and factors of 3 are fine enough to find it.

Where matplotlib is installed, the losses along the way are drawn into runs/learning_rate.png.

Prints:
    lr 0.0001  validation loss 3.1  ###...
    lr 0.0003  validation loss 2.5  ###...
    lr 0.001   validation loss 2.0  ###...
    lr 0.003   validation loss 1.9  ###...
    lr 0.01    validation loss 2.3  ###...
    lr 0.03    validation loss 2.8  ###...
    lr 0.1     validation loss 3.1  ###...
    ...
"""

from pathlib import Path

import numpy as np

from tinygpt import GPT, AdamW, GPTConfig, accumulate_gradients, data, evaluate, tokenizers

PICTURE = Path("runs/learning_rate.png")
LEARNING_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


def train(lr, tokens, validation, vocab_size, steps):
    """-> the loss at each step, and the validation loss at the end."""
    model = GPT(GPTConfig(vocab_size, block_size=64, n_layer=2, n_head=4, n_embd=64))
    loader = data.Loader(tokens, block_size=64, batch_size=16)
    optimizer = AdamW(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        losses.append(float(accumulate_gradients(model.loss, *next(loader))))
        optimizer.step()
        optimizer.zero_grad()
    return losses, float(evaluate(model.loss, *data.windows(validation, 64)))


def main(steps=150):
    text = data.play(characters=100_000)
    tokenizer = tokenizers.Char.train(text)
    tokens, validation = data.split(tokenizer.encode_array(text))

    curves = {}
    for lr in LEARNING_RATES:
        curves[lr], loss = train(lr, tokens, validation, tokenizer.vocab_size, steps)
        print(f"lr {lr:<6}  validation loss {loss:.1f}  {'#' * round(10 * loss)}")

    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("for the picture: pip install matplotlib")
        return
    figure = Figure()
    axes = figure.subplots()
    for lr, losses in curves.items():
        smooth = np.convolve(losses, np.ones(10) / 10, mode="valid")  # the mean of ten steps
        axes.plot(smooth, label=f"lr {lr}")
    axes.set(xlabel="step", ylabel="loss (nats per character)")
    axes.legend()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE)
    print(f"the picture is in {PICTURE}")


if __name__ == "__main__":
    main()
