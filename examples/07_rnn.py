"""A recurrent network: what it has read so far is a vector, and every character changes it.

h_t = tanh(x_t + h_(t-1) @ w + b), where x_t is the character's own vector, and the scores of what
follows are read off h_t. The text and the measure are those of the bigram (same_measure.py).

The loop over time is a plain Python loop. Backprop through time needs nothing more: the tape has
one node per op that ran, and goes back through all of them, last character first. On the way the
gradient fades: what was read long ago has little say in what the network learns.

Prints:
    30,647 parameters, validation loss 0.86 nats per character
    ...
     0 characters back: gradient 1.000
     1 characters back: gradient 0.633
     2 characters back: gradient 0.461
     4 characters back: gradient 0.249
     8 characters back: gradient 0.044
    16 characters back: gradient 0.004
    32 characters back: gradient 0.000
"""

import numpy as np
from same_measure import Text, report, train

from tinygpt import Tensor, nn
from tinygpt import functional as F


class RNN(nn.Module):
    def __init__(self, vocab_size, n_embd=128):
        rng = np.random.default_rng(0)
        self.embedding = nn.Embedding(vocab_size, n_embd, rng, std=1.0)
        self.recurrent = nn.Linear(n_embd, n_embd, rng, std=n_embd**-0.5)
        self.head = nn.Linear(n_embd, vocab_size, rng)

    def states(self, x):
        """x (B, T, C) -> h (B, T, C)."""
        B, T, C = x.shape
        h = Tensor(np.zeros((B, 1, C), "float32"))
        hs = []
        for x_t in F.split(x, sizes=[1] * T, axis=1):
            h = (x_t + self.recurrent(h)).tanh()
            hs.append(h)
        return F.concatenate(hs, axis=1)

    def __call__(self, ids):
        """ids (B, T) -> for each place the scores of what follows, (B, T, V)."""
        return self.head(self.states(self.embedding(ids)))

    def loss(self, ids, targets):
        return F.cross_entropy(self(ids), targets)


def main(steps=1000):
    text = Text()
    model = RNN(text.vocab_size)
    train(model, text, steps, lr=3e-3)
    report(model, text)

    # How far back does the last state reach? Its gradient, at the input and those before it.
    x = Tensor(model.embedding(text.validation[None, :64]).data, requires_grad=True)
    model.states(x)[:, -1].sum().backward()
    reach = np.linalg.norm(x.grad[0], axis=-1)  # (T,)
    for back in (0, 1, 2, 4, 8, 16, 32):
        print(f"{back:2} characters back: gradient {reach[-1 - back] / reach[-1]:.3f}")


if __name__ == "__main__":
    main()
