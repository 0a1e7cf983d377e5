"""A GPT: every character looks back at all the others, and takes from each what it asks for.

The bigram sees one character, the RNN a summary that it rewrites at every step. Here nothing is
summarised: attention reaches all characters of the window at once, near or far alike. The text and
the measure are those of 06 and 07 (same_measure.py).

Prints:
    x
"""

from same_measure import BLOCK_SIZE, Text, report, train

from tinygpt import GPT, GPTConfig


def main(steps=1000):
    text = Text()
    model = GPT(GPTConfig(text.vocab_size, BLOCK_SIZE, n_layer=2, n_head=4, n_embd=64))
    train(model, text, steps, lr=3e-3)
    report(model, text)


if __name__ == "__main__":
    main()
