"""Let a trained model write:   python examples/11_generate.py FOLDER [PROMPT]

FOLDER holds a model: runs/own-text, which 10_your_own_text.py makes, or the best/ of a run of
train_shakespeare.py. The model gives a probability to every token that may come next. How one of
them is drawn is up to us, and the same model writes cautiously or wildly.

Prints, where "..." is what the model writes, and the rest is true of every model:
    temperature 0, always the likeliest: ...
    temperature 0.8, the likely ones more often than the model says: ...
    temperature 1, as the model says: ...
    temperature 1, from the likeliest that together have top_p = 0.5: ...

    at temperature 0 the seed makes no difference: True
    at temperature 1 the same seed writes the same: True
    top_k=1 leaves only the likeliest: True
    without the cache of keys and values it is the same: True
"""

import sys

import numpy as np

from tinygpt import GPT, checkpoint, tokenizers


def main(folder, prompt="\n", n=100):
    model = GPT.load(folder)
    _, meta, _ = checkpoint.load(folder, groups=())
    tokenizer = tokenizers.from_dict(meta["tokenizer"])
    ids = [tokenizer.encode(prompt)]  # (1, T): a batch of one

    def write(what=None, **options):
        written = model.generate(ids, n, **options)  # (1, T + n)
        if what is not None:
            print(f"{what}: {tokenizer.decode(written[0])}\n")
        return written

    likeliest = write("temperature 0, always the likeliest", temperature=0)
    write("temperature 0.8, the likely ones more often than the model says", temperature=0.8)
    sampled = write("temperature 1, as the model says")
    write("temperature 1, from the likeliest that together have top_p = 0.5", top_p=0.5)

    def same(a, b):
        return np.array_equal(a, b)

    another_seed = write(temperature=0, rng=1)
    without_cache = write(temperature=0, use_cache=False)
    print("at temperature 0 the seed makes no difference:", same(likeliest, another_seed))
    print("at temperature 1 the same seed writes the same:", same(sampled, write()))
    print("top_k=1 leaves only the likeliest:", same(likeliest, write(top_k=1)))
    print("without the cache of keys and values it is the same:", same(likeliest, without_cache))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(
            "give the folder of a model: python examples/11_generate.py runs/own-text "
            "(python examples/10_your_own_text.py makes that one)"
        )
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
