"""One text, one way to train and one measure for 06, 07 and 08: what differs is the model.

The measure is the loss on the last tenth of the text, which no model trains on: nats per character,
the mean of -log p(the character that came). Every model sees that tenth through the same windows.
"""

from tinygpt import AdamW, accumulate_gradients, data, evaluate, tokenizers
from tinygpt.generate import generate

BLOCK_SIZE, BATCH_SIZE = 64, 16  # characters a model sees at once, windows in a batch


class Text:
    """The play as numbers: a character is a token."""

    def __init__(self, characters=200_000):
        self.text = data.play(characters=characters)
        self.tokenizer = tokenizers.Char.train(self.text)
        self.vocab_size = self.tokenizer.vocab_size
        self.train, self.validation = data.split(self.tokenizer.encode_array(self.text))


def train(model, text, steps, lr):
    """Take `steps` steps of AdamW, each on a batch, with a learning rate that falls to 0."""
    loader = data.Loader(text.train, BLOCK_SIZE, BATCH_SIZE)
    optimizer = AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    for step in range(steps):
        ids, targets = next(loader)  # both (B, T); the targets are the ids, one place further
        accumulate_gradients(model.loss, ids, targets)
        optimizer.clip_grad_norm(1.0)
        optimizer.step(lr_scale=1 - step / steps)
        optimizer.zero_grad()


def report(model, text):
    """Print the size of the model, its loss on the validation text, and what it writes."""
    size = sum(p.size for p in model.parameters())
    loss = evaluate(model.loss, *data.windows(text.validation, BLOCK_SIZE))
    print(f"{size:,} parameters, validation loss {loss:.2f} nats per character")

    def next_logits(ids, cache):
        return model(ids).data[:, -1]

    newline = text.tokenizer.encode_array("\n")[None]
    ids = generate(next_logits, newline, 150, BLOCK_SIZE)
    print(text.tokenizer.decode(ids[0]))
