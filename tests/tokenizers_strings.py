"""Texts to try tokenizers on: a dozen scripts, odd characters, and generated strings."""

import unicodedata

from hypothesis import strategies as st

END = "<|endoftext|>"
REAL = """
First Citizen: Before we proceed any further, hear me speak. I'll speak; they'VE heard, haven't
they?  We are accounted poor citizens, the patricians good: 1999, 12345 or 3.14159!   \t
    def f(x):\r\n        return x_1 + "héllo"\n\n\n
Ça coûte où? Größe, straße; Съешь ещё этих мягких французских булок. Τι κάνεις, Σίσυφος;
שלום עולם, מה שלומך? مرحبا بالعالم، كيف الحال؟ नमस्ते दुनिया, क्या हाल है। สวัสดีชาวโลก
你好，世界。今天天气很好！ こんにちは世界、カタカナ ｶﾞｷﾞ 안녕하세요 세계
გამარჯობა Բարև ሰላም ଓଡ଼ିଆ தமிழ் ខ្មែរ ᠮᠣᠩᠭᠣᠯ
👩\u200d👩\u200d👧 🙂🏽 🏳️\u200d🌈 e\u0301 n\u0303 o\u0308\u0304 \u00a0\u2003.
ﬁ Ⅷ ² ﷺ İı ſ ǅ ẞ \x00 \x07 \x85 \u2028 \ufeff \ufffd
"""

# Any text, also of characters that random sampling would hardly ever put side by side. Of all
# characters those that Unicode 3.2 had: about newer ones the libraries do not yet agree.
characters = st.characters(exclude_categories=["Cs", "Cn"]).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn"
)
chunks = st.sampled_from(
    [*REAL.split(" "), *" \n\t\r'", "\r\n", "  ", "'s", "'LL", "\0", "🙂", "\u0301", "\u200d", "İ"]
)
any_text = st.lists(chunks | st.text(characters, max_size=5), max_size=20).map("".join)


def change(path, value):
    """A function that puts the value at "a.b.0.c" of a JSON object."""

    def edit(d):
        *parents, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
        for key in parents:
            d = d[key]
        d[last] = value

    return edit
