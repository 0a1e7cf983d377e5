r"""Train a tokenizer: byte-pair encoding merges the pair that is seen most often, again and again.

At first every byte is a token. The most frequent pair of neighbours becomes a new one, then the
most frequent pair of what there is now, and so on. Words of the text end up as one token each; all
else is spelled out, and nothing is ever unknown, because every text is bytes.

Prints:
    256 tokens: 1.00 bytes in each
    264 tokens: 1.14 bytes in each
    320 tokens: 1.67 bytes in each
    680 tokens: 3.66 bytes in each
    the first merges made ' s', ' t', ' h', 'ou', ' b', 'in', ' th', 'ea'
    the last merges made 'phe', 'hephe', ' Shephe', ' Shepherd', ' put', ' bur', ' burnt', ' F'
    Then| hast| thou| fed| the| n|a|\xc3|\xaf|ve| |\xe6|\x9d|\xb1|\xe4|\xba|\xac| knee
    36 characters, 41 bytes, 18 tokens
    there and back: True
    saved and loaded, the same tokens: True
"""

import tempfile
from pathlib import Path

from tinygpt import data, tokenizers


def main():
    train, validation = data.split(data.play(characters=200_000))

    for vocab_size in (256, 264, 320, 680):
        tokenizer = tokenizers.BPE.train(train, vocab_size)
        n = len(tokenizer.encode(validation))
        print(f"{vocab_size} tokens: {len(validation.encode()) / n:.2f} bytes in each")

    for what, some in (("first", tokenizer.tokens[256:264]), ("last", tokenizer.tokens[-8:])):
        print(f"the {what} merges made", ", ".join(repr(token.decode()) for token in some))

    # Text that it has never seen, in scripts it has never seen, comes back whole.
    text = "Then hast thou fed the naïve 東京 knee"
    ids = tokenizer.encode(text)
    print("|".join(tokenizer.tokens[i].decode(errors="backslashreplace") for i in ids))
    print(f"{len(text)} characters, {len(text.encode())} bytes, {len(ids)} tokens")
    print("there and back:", tokenizer.decode(ids) == text)

    # tokenizer.json is Hugging Face's format: other programs read it, and we read theirs.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        tokenizer.save(file)
        same = tokenizers.load(file).encode(validation) == tokenizer.encode(validation)
    print("saved and loaded, the same tokens:", same)


if __name__ == "__main__":
    main()
