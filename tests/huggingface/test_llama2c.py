"""Files of llama2.c against a plain loop over positions, such as the one of run.c."""

import struct

import numpy as np
import pytest
from small_gpt import relative_error

from tinygpt import GPT

L, V, T = 2, 11, 9
C, INNER, H, G = 24, 10, 4, 2
D = C // H
SHAPES = {  # of a layer's tensors, stored (out, in)
    "norm_1": (C,),
    "q": (C, C),
    "k": (G * D, C),
    "v": (G * D, C),
    "o": (C, C),
    "norm_2": (C,),
    "w1": (INNER, C),
    "w2": (C, INNER),
    "w3": (INNER, C),
}
ATTENTION, MLP = ["q", "k", "v", "o"], ["w1", "w2", "w3"]


def random_weights():
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((L, *shape)) for name, shape in SHAPES.items()}
    weights |= {name: rng.standard_normal((V, C)) for name in ("embedding", "head")}
    weights["norm_f"] = rng.standard_normal(C)
    return {name: (0.5 * w).astype("float32") for name, w in weights.items()}


def write(file, weights, version=0, tied=False):
    sizes = struct.pack("<7i", C, INNER, L, H, G, -V if version == 0 and not tied else V, T)
    if version == 0:
        data = [sizes]
        names = ["embedding", "norm_1", *ATTENTION, "norm_2", *MLP, "norm_f"]
        angles = [np.full(T * D, np.nan, "float32").tobytes()]
    else:
        data = [(struct.pack("<Ii", 0x616B3432, version) + sizes + bytes([tied])).ljust(256, b"\0")]
        names = ["norm_1", "norm_2", "norm_f", "embedding", *ATTENTION, *MLP]
        angles = []
    data += [weights[name].tobytes() for name in names] + angles
    file.write_bytes(b"".join(data + ([] if tied else [weights["head"].tobytes()])))
    return file


def logits(ids, weights, tied):
    """(T,) -> (T, V), token by token, with the keys and values of those before."""
    w = {name: array.astype("float64") for name, array in weights.items()}
    keys, values = np.zeros((2, L, len(ids), G, D))
    frequencies = 10000.0 ** (-np.arange(0, D, 2) / D)
    out = []
    for t, token in enumerate(ids):
        turn = np.exp(1j * t * frequencies)
        x = w["embedding"][token]
        for i in range(L):
            y = norm(x, w["norm_1"][i])
            q = turned((w["q"][i] @ y).reshape(H, D), turn)
            keys[i, t] = turned((w["k"][i] @ y).reshape(G, D), turn)
            values[i, t] = (w["v"][i] @ y).reshape(G, D)
            heads = []
            for h in range(H):
                g = h // (H // G)
                score = np.exp(keys[i, : t + 1, g] @ q[h] / np.sqrt(D))
                heads.append(score / score.sum() @ values[i, : t + 1, g])
            x = x + w["o"][i] @ np.concatenate(heads)
            y = norm(x, w["norm_2"][i])
            gate = w["w1"][i] @ y
            x = x + w["w2"][i] @ (gate / (1 + np.exp(-gate)) * (w["w3"][i] @ y))
        out.append(w["embedding" if tied else "head"] @ norm(x, w["norm_f"]))
    return np.array(out)


def norm(x, weight):
    return weight * x / np.sqrt((x * x).mean() + 1e-5)


def turned(x, turn):
    """Features 2i and 2i + 1 are the parts of a complex number."""
    z = (x[:, 0::2] + 1j * x[:, 1::2]) * turn
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("tied", [False, True])
def test_logits(tmp_path, version, tied):
    weights = random_weights()
    model = GPT.from_llama2c(write(tmp_path / "model.bin", weights, version, tied))
    assert model.config.tie_weights == tied
    ids = np.random.default_rng(1).integers(0, V, T)
    found = model(ids[None]).data[0]
    assert found.dtype == "float32"
    assert relative_error(found, logits(ids, weights, tied)) < 1e-5


def test_as_a_folder_of_hugging_face(tmp_path):
    model = GPT.from_llama2c(write(tmp_path / "model.bin", random_weights()))
    model.export(tmp_path / "folder")
    again = GPT.from_pretrained(tmp_path / "folder")
    ids = np.arange(T)[None]
    np.testing.assert_array_equal(again(ids).data, model(ids).data)


def header(*sizes):
    return struct.pack("<7i", *sizes)


BAD_FILES = {
    "nothing": (lambda raw: b"", "0 bytes are no model of llama2.c"),
    "cut": (lambda raw: raw[:-4], r"has [\d,]+ bytes; .* expected [\d,]+"),
    "longer": (lambda raw: raw + bytes(4), r"has [\d,]+ bytes; .* expected [\d,]+"),
    "header alone": (lambda raw: raw[:28], "has 28 bytes; .* expected"),
    "negative": (lambda raw: header(-1, 1, 1, 1, 1, 1, 1) + raw[28:], "impossible sizes"),
    "huge": (lambda raw: header(*[2**31 - 1] * 7) + raw[28:], r"has [\d,]+ bytes; .* expected"),
    "heads": (lambda raw: header(C, INNER, L, 5, 1, V, T) + raw[28:], "bytes; .* expected"),
    "quantized": (
        lambda raw: struct.pack("<Ii", 0x616B3432, 2) + raw,
        "is of version 2; supported: the float32 formats, 0 and 1",
    ),
    "text": (lambda raw: b"A text of some length, which is not a model at all.", "bytes; .*exp"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_what_is_wrong_is_one_sentence(tmp_path, damage, message):
    file = write(tmp_path / "model.bin", random_weights())
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        GPT.from_llama2c(file)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no file .*model.bin"):
        GPT.from_llama2c(tmp_path / "model.bin")


def test_heads_that_do_not_divide(tmp_path):
    """Sizes that give the right length by chance, and no model."""
    weights = random_weights()
    file = write(tmp_path / "model.bin", weights, version=1)
    raw = bytearray(file.read_bytes())
    struct.pack_into("<2i", raw, 8 + 12, 8, 4)  # 8 heads of 3 features, which rope cannot pair
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=r"model.bin: rope turns pairs"):
        GPT.from_llama2c(file)
