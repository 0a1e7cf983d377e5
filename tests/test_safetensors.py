"""safetensors: exact bytes, round trips, the reference implementation, thousands of bad files."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygpt import safetensors

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def example():
    """Every dtype, and the shapes on which readers stumble."""
    arrays = {f"a.{name}": np.arange(6).reshape(2, 3).astype(name) for name in DTYPES}
    arrays["nothing"] = np.zeros((0, 3), np.float32)
    arrays["number"] = np.array(2.5)
    return arrays


def build(header, data=b""):
    """A file as an adversary would make one: any header (bytes, or data for JSON), any arrays."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def assert_same(loaded, arrays):
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
        assert loaded[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
        assert type(loaded[name]) is np.ndarray
        assert loaded[name].flags.aligned
        assert loaded[name].flags.writeable


# ---- what is right ------------------------------------------------------------------------------


def test_the_bytes_of_a_small_file(tmp_path):
    file = tmp_path / "small.safetensors"
    safetensors.save(file, {"w": np.array([1, 2], np.uint8)}, {"by": "hand"})
    header = b'{"__metadata__":{"by":"hand"},"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
    padding = b" " * (88 - len(header))
    assert file.read_bytes() == b"\x58\0\0\0\0\0\0\0" + header + padding + b"\x01\x02"
    assert safetensors.load_metadata(file) == {"by": "hand"}


def test_every_dtype_and_odd_shape_comes_back(tmp_path):
    file = tmp_path / "all.safetensors"
    safetensors.save(file, example())
    assert_same(safetensors.load(file), example())
    assert safetensors.load_metadata(file) == {}


def test_no_arrays(tmp_path):
    safetensors.save(tmp_path / "empty.safetensors", {})
    assert safetensors.load(tmp_path / "empty.safetensors") == {}


any_array = hnp.arrays(
    st.sampled_from(DTYPES + [">f4", ">i8"]).map(np.dtype),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
any_table = st.dictionaries(
    st.text('ab.é中"\\', max_size=8),
    any_array.flatmap(lambda a: st.sampled_from([a, a.T, a[::-1] if a.ndim else a])),
    max_size=5,
)


@given(any_table, st.none() | st.dictionaries(st.text("ab é", max_size=4), st.just("é")))
@settings(deadline=None, max_examples=50)
def test_round_trip(tmp_path_factory, arrays, metadata):
    file = tmp_path_factory.mktemp("round") / "trip.safetensors"
    safetensors.save(file, arrays, metadata)
    assert_same(safetensors.load(file), arrays)
    assert safetensors.load_metadata(file) == (metadata or {})
    written = file.read_bytes()
    safetensors.save(file, safetensors.load(file), metadata)
    assert file.read_bytes() == written


def test_every_array_is_aligned_in_the_file(tmp_path):
    file = tmp_path / "f.safetensors"
    safetensors.save(file, {"a": np.zeros(3, np.int8), "b": np.zeros(1), "c": np.zeros(1, "f2")})
    raw = file.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    assert (8 + n) % 8 == 0
    header = json.loads(raw[8 : 8 + n])
    assert [header[name]["data_offsets"][0] for name in "abc"] == [10, 0, 8]


def test_bfloat16_is_widened_exactly(tmp_path):
    """Every bfloat16 there is: a float32 whose lower half is zero."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    file = tmp_path / "bf16.safetensors"
    file.write_bytes(build({"w": entry("BF16", [256, 256], [0, 1 << 17])}, bits.tobytes()))
    w = safetensors.load(file)["w"]
    assert w.dtype == np.float32
    assert w.shape == (256, 256)
    np.testing.assert_array_equal(w.view(np.uint32).reshape(-1) >> 16, bits)
    np.testing.assert_array_equal(w.view(np.uint32) & 0xFFFF, 0)
    assert w[0x3F, 0xC0] == 1.5


def test_bfloat16_number(tmp_path):
    file = tmp_path / "bf16.safetensors"
    file.write_bytes(build({"w": entry("BF16", [], [0, 2])}, b"\xc0\x3f"))
    w = safetensors.load(file)["w"]
    assert isinstance(w, np.ndarray)
    assert w == np.float32(1.5)


def test_a_file_from_elsewhere_need_not_be_aligned(tmp_path):
    header = {"a": entry("U8", [1], [0, 1]), "w": entry("F32", [2], [1, 9])}
    for spaces in range(8):
        text = json.dumps(header).encode() + b" " * spaces
        (tmp_path / "f").write_bytes(build(text, b"\x07" + np.float32([1.5, -2]).tobytes()))
        w = safetensors.load(tmp_path / "f")["w"]
        assert w.flags.aligned
        assert w.tolist() == [1.5, -2]


def test_any_byte_is_a_boolean(tmp_path):
    (tmp_path / "f").write_bytes(build({"m": entry("BOOL", [3], [0, 3])}, b"\x00\x01\x07"))
    assert safetensors.load(tmp_path / "f")["m"].tobytes() == b"\x00\x01\x01"


def test_writing_to_a_loaded_array_leaves_the_file(tmp_path):
    file = tmp_path / "f.safetensors"
    safetensors.save(file, {"w": np.zeros(4)})
    safetensors.load(file)["w"][:] = 1
    assert safetensors.load(file)["w"].tolist() == [0, 0, 0, 0]


def test_arrays_may_be_saved_to_the_file_they_are_mapped_from(tmp_path):
    file = tmp_path / "f.safetensors"
    safetensors.save(file, {"w": np.arange(10000.0)})
    mapped = safetensors.load(file)
    safetensors.save(file, {"w": mapped["w"][:10]})
    np.testing.assert_array_equal(mapped["w"], np.arange(10000.0))
    np.testing.assert_array_equal(safetensors.load(file)["w"], np.arange(10.0))


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "f.safetensors"
    safetensors.save(file, {"w": np.zeros(4)})
    before = file.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        safetensors.save(file, {"w": np.ones(4)})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


# ---- one array at a time -------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 20, 1 << 22])
def test_a_reader_gives_what_load_gives(tmp_path, monkeypatch, block):
    monkeypatch.setattr(safetensors, "BLOCK", block)
    arrays = example() | {"row": np.arange(7.0), "three": np.arange(60.0).reshape(5, 4, 3)}
    safetensors.save(tmp_path / "f", arrays)
    reader = safetensors.Reader(tmp_path / "f")
    loaded = safetensors.load(tmp_path / "f")
    assert list(reader.arrays) == list(loaded)
    for name, array in loaded.items():
        assert reader.arrays[name][1] == array.shape
        if array.ndim:
            found = np.empty_like(array)
            reader.read(name, found)
            np.testing.assert_array_equal(found, array)
            turned = np.empty(array.shape[::-1])  # a view, of another dtype
            reader.read(name, turned.T)
            np.testing.assert_array_equal(turned.T, array)
    ((_, number),) = reader.blocks("number")
    assert number.tolist() == [2.5]


def test_a_reader_widens_bfloat16(tmp_path):
    bits = np.arange(1 << 16, dtype=np.uint16)
    file = tmp_path / "bf16.safetensors"
    file.write_bytes(build({"w": entry("BF16", [256, 256], [0, 1 << 17])}, bits.tobytes()))
    w = np.empty((256, 256), "float32")
    safetensors.Reader(file).read("w", w)
    np.testing.assert_array_equal(w.view("uint32"), safetensors.load(file)["w"].view("uint32"))


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    file = tmp_path / "f.safetensors"
    safetensors.save(file, {"w": np.zeros(4)})
    reader = safetensors.Reader(file)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match="f.safetensors: array 'w' ends too early"):
        reader.read("w", np.empty(4))


# ---- the reference implementation ---------------------------------------------------------------


def test_the_safetensors_package_reads_ours(tmp_path):
    package = pytest.importorskip("safetensors", reason="the safetensors package is not installed")
    theirs = pytest.importorskip("safetensors.numpy")
    safetensors.save(tmp_path / "f", example(), {"format": "np"})
    loaded = theirs.load_file(tmp_path / "f")
    assert set(loaded) == set(example())
    for name, array in example().items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    with package.safe_open(tmp_path / "f", "np") as file:
        assert file.metadata() == {"format": "np"}


def test_we_read_the_safetensors_package(tmp_path):
    theirs = pytest.importorskip(
        "safetensors.numpy", reason="the safetensors package is not installed"
    )
    theirs.save_file(example(), tmp_path / "f", {"format": "np"})
    loaded = safetensors.load(tmp_path / "f")
    assert_same({name: loaded[name] for name in example()}, example())
    assert set(loaded) == set(example())
    assert safetensors.load_metadata(tmp_path / "f") == {"format": "np"}


def test_bfloat16_agrees_with_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    theirs = pytest.importorskip(
        "safetensors.torch", reason="the safetensors package is not installed"
    )
    w = torch.linspace(-3, 3, 70).reshape(7, 10).to(torch.bfloat16)
    theirs.save_file({"w": w, "a": torch.ones(3)}, tmp_path / "f")
    np.testing.assert_array_equal(safetensors.load(tmp_path / "f")["w"], w.float().numpy())


# ---- what is wrong ------------------------------------------------------------------------------

EIGHT = bytes(8)
BAD_FILES = {
    "nothing": (b"", "0 bytes"),
    "too short": (b"\x01\0\0", "3 bytes"),
    "header longer than the file": ((1 << 62).to_bytes(8, "little") + b"{}", "but 2 follow"),
    "header a little longer": ((6).to_bytes(8, "little") + b"{}", "6 bytes long, but 2 follow"),
    "header cut off": (build({"w": entry()}, EIGHT)[:20], "but 12 follow"),
    "an empty header": (build(b""), "start with '{'"),
    "not JSON": (build(b"{,}"), "not valid JSON"),
    "space before": (build(b" {}"), "start with '{'"),
    "a list": (build(b"[]"), "start with '{'"),
    "not UTF-8": (build(b'{"\xff": 1}'), "not valid JSON"),
    "UTF-16": (build('{"w": 1}'.encode("utf-16")), "start with '{'"),
    "two objects": (build(b"{}{}"), "not valid JSON"),
    "too deep": (build(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "long number": (build(b'{"a":' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "repeated name": (build(b'{"w": 1, "w": 2}'), "'w' appears twice"),
    "repeated key": (build(b'{"w": {"dtype": "F32", "dtype": "F32"}}'), "'dtype' appears twice"),
    "NaN": (build(b'{"w": NaN}'), "NaN is not JSON"),
    "metadata list": (build({"__metadata__": []}), "__metadata__"),
    "metadata number": (build({"__metadata__": {"a": 1}}), "__metadata__"),
    "entry not a table": (build({"w": 3}), "not described"),
    "no shape": (build({"w": {"dtype": "F32", "data_offsets": [0, 8]}}, EIGHT), "not described"),
    "unknown key": (build({"w": {**entry(), "x": 1}}, EIGHT), "not described"),
    "unknown dtype": (build({"w": entry("F8_E4M3")}, EIGHT), "'w' has dtype 'F8_E4M3'"),
    "dtype a list": (build({"w": entry([])}, EIGHT), "has dtype"),
    "shape a number": (build({"w": entry(shape=2)}, EIGHT), "impossible shape"),
    "negative shape": (build({"w": entry(shape=[-2])}, EIGHT), "impossible shape"),
    "negative twice": (build({"w": entry(shape=[-2, -1])}, EIGHT), "impossible shape"),
    "float shape": (build({"w": entry(shape=[2.0])}, EIGHT), "impossible shape"),
    "boolean shape": (build({"w": entry("F64", [True])}, EIGHT), "impossible shape"),
    "many dimensions": (build({"w": entry("F64", [1] * 65)}, EIGHT), "impossible shape"),
    "absurd dimension": (build({"w": entry(shape=[10**30])}, EIGHT), "impossible shape"),
    "absurd product": (build({"w": entry(shape=[2**40, 2**40])}, EIGHT), "impossible shape"),
    "absurd and empty": (
        build({"w": entry(shape=[0, 2**40, 2**40], offsets=[0, 0])}),
        "impossible shape",
    ),
    "shape too large": (build({"w": entry(shape=[3])}, EIGHT), "has 8 bytes, .* needs 12"),
    "shape too small": (build({"w": entry(shape=[])}, EIGHT), "has 8 bytes, .* needs 4"),
    "one offset": (build({"w": entry(offsets=[8])}, EIGHT), "impossible data_offsets"),
    "negative offsets": (build({"w": entry(offsets=[-8, 0])}, EIGHT), "impossible data_offsets"),
    "absurd offsets": (build({"w": entry(offsets=[0, 10**30])}), "impossible data_offsets"),
    "offsets reversed": (build({"w": entry(offsets=[8, 0])}, EIGHT), "impossible data_offsets"),
    "beyond the end": (build({"w": entry()}, EIGHT[1:]), "8 bytes, but 7 follow"),
    "bytes left over": (build({"w": entry()}, EIGHT + b"\0"), "8 bytes, but 9 follow"),
    "gap at the start": (build({"w": entry(offsets=[4, 12])}, bytes(12)), "gap before it"),
    "gap": (
        build({"w": entry(), "v": entry(offsets=[12, 20])}, bytes(20)),
        "'v' leaves a gap before it: it starts at 12, not 8",
    ),
    "overlap": (
        build({"w": entry(), "v": entry(offsets=[4, 12])}, bytes(12)),
        "'v' overlaps the array before it",
    ),
    "same bytes twice": (build({"w": entry(), "v": entry()}, EIGHT), "overlaps"),
}


@pytest.mark.parametrize(("raw", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_say_what_is_wrong(tmp_path, raw, message):
    file = tmp_path / "bad.safetensors"
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=message) as caught:
        safetensors.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_header_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "MAX_HEADER", 10)
    (tmp_path / "f").write_bytes(build(b"{" + b" " * 20 + b"}"))
    with pytest.raises(ValueError, match="22 bytes long, more than the 10 allowed"):
        safetensors.load(tmp_path / "f")


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "message"),
    [
        ({"w": np.zeros(2, complex)}, None, ValueError, "array 'w' has dtype complex128"),
        ({"w": np.array(["a"])}, None, ValueError, "array 'w' has dtype <U1"),
        ({"w": np.array([None])}, None, ValueError, "array 'w' has dtype object"),
        ({"w": np.longdouble([1])}, None, ValueError, "array 'w' has dtype"),
        ({"w": [1.0]}, None, TypeError, "'w': list"),
        ({3: np.zeros(2)}, None, TypeError, "3: ndarray"),
        ({"\ud800": np.zeros(2)}, None, ValueError, "surrogates not allowed"),
        ({"__metadata__": np.zeros(2)}, None, ValueError, "__metadata__"),
        ({}, {"step": 3}, TypeError, "'step' to 3"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_writing(tmp_path, arrays, metadata, error, message):
    with pytest.raises(error, match=message):
        safetensors.save(tmp_path / "f", arrays, metadata)
    assert list(tmp_path.iterdir()) == []


def mutate(raw, rng):
    """A few small accidents: bytes changed, cut, repeated, inserted."""
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(raw) if rng.random() < 0.2 else min(len(raw), 1200))
        match rng.randrange(6):
            case 0:
                raw[place] ^= 1 << rng.randrange(8)
            case 1:
                raw[place] = rng.choice(b'0123456789{}[]",:-.eE \0\xff')
            case 2:
                del raw[place : place + rng.choice([1, 1, 8, 1000])]
            case 3:
                raw[place:place] = raw[place : place + rng.choice([1, 8, 60])]
            case 4:
                raw[place:place] = rng.randbytes(rng.choice([1, 8]))
            case 5:
                raw[rng.randrange(8)] = rng.randrange(256)
        if len(raw) < 20:
            break
    if (
        rng.random() < 0.7 and len(raw) >= 8
    ):  # let the length be right, so that the rest is looked at
        end = raw.rfind(b"}") + 1
        raw[:8] = max(end - 8, 0).to_bytes(8, "little")
    return bytes(raw)


def check_mutations(tmp_path, n, seed):
    file = tmp_path / "f"
    safetensors.save(file, example(), {"some": "thing"})
    good = file.read_bytes()
    rng = random.Random(seed)
    refused = 0
    for _ in range(n):
        file.write_bytes(mutate(good, rng))
        try:
            arrays = safetensors.load(file)
            safetensors.load_metadata(file)
        except ValueError:
            refused += 1
            continue
        assert sum(array.nbytes for array in arrays.values()) <= 2 * len(good)
        for name, array in arrays.items():
            assert isinstance(name, str)
            array.copy()
    assert n / 2 < refused < n


def test_mutated_files(tmp_path):
    check_mutations(tmp_path, 500, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_thousands_of_mutated_files(tmp_path, seed):
    check_mutations(tmp_path, 5000, seed)
