"""Train a tokenizer: byte-pair encoding merges the pair that is seen most often, again and again.

Every token starts as one byte. The most frequent pair of neighbours becomes a token, then the next
one, which may be made of the first. Frequent words end up as one token, rare ones as a few, and
nothing is ever unknown, because every text is bytes.

Prints:
    x
"""

import tempfile
from pathlib import Path

from tinygpt import data, tokenizers


def main():
    train, validation = data.split(data.play(characters=200_000))

    for vocab_size in (256, 384, 512, 1024):
        tokenizer = tokenizers.BPE.train(train, vocab_size)
        ids = tokenizer.encode(validation)
        longest = max(tokenizer.tokens, key=len).decode()
        print(
            f"{vocab_size:4} tokens: {len(validation.encode()) / len(ids):.2f} bytes per token, "
            f"the longest is {longest!r}"
        )

    print("the first merges:", ", ".join(repr(t.decode()) for t in tokenizer.tokens[256:264]))

    # Text that it has never seen, in a script it has never seen, comes back as it was.
    text = "Enter a GHOST, saying: naïve café 東京 🎭"
    ids = tokenizer.encode(text)
    print(f"{len(text)} characters, {len(text.encode())} bytes, {len(ids)} tokens:")
    print("|".join(tokenizer.tokens[i].decode(errors="backslashreplace") for i in ids))
    print("there and back:", tokenizer.decode(ids) == text)

    # tokenizer.json is Hugging Face's format: other programs read it, and we read theirs.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        tokenizer.save(file)
        same = tokenizers.load(file).encode(validation) == tokenizer.encode(validation)
    print("saved and loaded, the same tokens:", same)


if __name__ == "__main__":
    main()
