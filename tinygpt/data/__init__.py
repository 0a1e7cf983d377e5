"""Texts to train on, and batches of tokens from them.

text.py       read_text: any UTF-8 text file
corpora.py    shakespeare: the text that everyone's first GPT learns
play.py       play: endless verse that needs no network; play_nats: how unlikely each character is
download.py   fetch: a known file from TINYGPT_DATA, the cache, or the network
batches.py    split, windows, Loader: from tokens to (ids, targets)
"""

from .batches import Loader, split, windows
from .corpora import shakespeare
from .download import DownloadError
from .play import play, play_nats
from .text import read_text

__all__ = [
    "DownloadError",
    "Loader",
    "play",
    "play_nats",
    "read_text",
    "shakespeare",
    "split",
    "windows",
]
