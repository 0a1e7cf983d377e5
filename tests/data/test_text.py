"""read_text: what comes back, and a sentence for every file that cannot be read."""

import pytest

from tinygpt.data import read_text


def write(folder, raw):
    path = folder / "text.txt"
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("naïve 中 🙂\n".encode(), "naïve 中 🙂\n"),
        (b"no newline at the end", "no newline at the end"),
        (b"\n\n", "\n\n"),
        (b"\xef\xbb\xbfa mark before", "a mark before"),
        (b"a\xef\xbb\xbfb", "a\ufeffb"),
        (b"windows\r\nold mac\rboth\r\r\n", "windows\nold mac\nboth\n\n"),
        ("other line ends\u2028\x0b\x85".encode(), "other line ends\u2028\x0b\x85"),
        (b"\0", "\0"),
    ],
)
def test_text(tmp_path, raw, text):
    path = write(tmp_path, raw)
    assert read_text(path) == text
    assert read_text(str(path)) == text


def test_newlines_are_those_of_open(tmp_path):
    path = write(tmp_path, b"\r\n\n\r\r\r\n\na\n\rb")
    assert read_text(path) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\xe9", r"not UTF-8 text: byte 0xe9 at offset 0 \(line 1\)"),
        (b"one\ntwo\r\nna\xefve\n", r"byte 0xef at offset 11 \(line 3\)"),
        (b"\xef\xbb\xbfa\n\xff", r"byte 0xff at offset 5 \(line 2\)"),
        (b"cut \xe4\xb8", r"byte 0xe4 at offset 4 \(line 1\)"),
        ("UTF-16".encode("utf-16"), r"byte 0xff at offset 0 \(line 1\)"),
        (b"\xed\xa0\x80", "byte 0xed at offset 0"),
    ],
)
def test_what_is_not_a_text_is_a_sentence(tmp_path, raw, message):
    path = write(tmp_path, raw)
    with pytest.raises(ValueError, match=message) as caught:
        read_text(path)
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value, UnicodeError)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(ValueError, match="there is no file .*nowhere.txt"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match="is a folder"):
        read_text(tmp_path)
    file = write(tmp_path, b"x")
    with pytest.raises(ValueError, match="cannot be read"):
        read_text(file / "below a file")
