"""A bigram model: the next character depends on the last one, and on nothing before it.

The model is one table of numbers: row c holds a score for every character that may follow c. A
table like this has a best one, which needs no training: the logarithm of how often each pair of
characters occurs. Gradients find the same, and they go on working where nobody can count: in 07
and 08, on the same text, by the same measure (same_measure.py).

Prints:
    knowing nothing: 4.01 nats, one of 55
    by counting: 3,025 parameters, validation loss 2.02 nats per character
    ...
    by gradients: 3,025 parameters, validation loss 2.01 nats per character
    ...
"""

import numpy as np
from same_measure import Text, report, train

from tinygpt import functional as F
from tinygpt import nn


class Bigram(nn.Module):
    def __init__(self, vocab_size):
        self.scores = nn.Embedding(vocab_size, vocab_size, np.random.default_rng(0))

    def __call__(self, ids):
        """ids (B, T) -> for each place the scores of what follows, (B, T, V)."""
        return self.scores(ids)

    def loss(self, ids, targets):
        return F.cross_entropy(self(ids), targets)


def by_counting(text):
    """The table of log(1 + how often b follows a). The 1 is for pairs that never occurred."""
    counts = np.ones((text.vocab_size, text.vocab_size), "float32")
    np.add.at(counts, (text.train[:-1], text.train[1:]), 1)
    return np.log(counts)


def main(steps=1000):
    text = Text()
    print(f"knowing nothing: {np.log(text.vocab_size):.2f} nats, one of {text.vocab_size}")

    model = Bigram(text.vocab_size)
    model.scores.weight.data[...] = by_counting(text)
    print("by counting: ", end="")
    report(model, text)

    model = Bigram(text.vocab_size)
    train(model, text, steps, lr=0.1)
    print("by gradients: ", end="")
    report(model, text)


if __name__ == "__main__":
    main()
