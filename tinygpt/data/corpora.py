"""The texts that tinygpt knows by name."""

from __future__ import annotations

from .download import fetch
from .text import read_text


def shakespeare() -> str:
    """tinyshakespeare: 40,000 lines from the plays, 1,115,394 characters, 65 different ones.

    Looked for as tinyshakespeare.txt in the folder TINYGPT_DATA, then in the cache, then downloaded
    into the cache. Errors as `fetch`. Karpathy 2015, https://github.com/karpathy/char-rnn.
    """
    path = fetch(
        name="tinyshakespeare.txt",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
        instead="train on a text of your own (--text FILE, tinygpt.data.read_text)",
    )
    return read_text(path)
