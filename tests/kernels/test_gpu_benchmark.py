"""benchmarks/gpu.py: what it counts and writes, and what it says where there is no GPU."""

import sys
from pathlib import Path

import numpy as np
import pytest
from emulation import GPUArray, to_gpu
from training_script import load_script
from twin_checks import stored_as

from tinygpt import AdamW, GPTConfig, backend, kernels
from tinygpt.backend import to_numpy
from tinygpt.kernels import gemm, precision

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def script():
    return load_script(SCRIPT)


def test_flops_and_bytes_by_hand(script):
    config = GPTConfig(vocab_size=10, block_size=4, n_layer=1, n_head=1, n_embd=2, bias=False)
    # 12 tokens and 12 * 2 * 2 + 10 * 2 weights; attention: 7 products of 3 x (4 x 4 x 2), halved
    assert script.product_flops(config, 3) == 6 * 12 * 68 + 7 * 2 * 3 * (4 * 4 * 2) / 2
    parameters = 10 * 2 + 4 * 2 + 48 + 3 * 2  # two tables, the matrices, three norms
    moved = 3 * 16 * 24 + 40 * 24 + 6 * 120 + 12 * 24 + 36 * parameters
    assert script.moved_bytes(config, 3) == moved
    assert script.floor_seconds(config, 3, 1e3, 1e3) == pytest.approx(
        (script.product_flops(config, 3) + moved) / 1e3
    )


def test_a_step_multiplies_what_was_counted(script, emulator, monkeypatch):
    stored_as("bfloat16")
    stand_in = type("cupy", (), {"asarray": staticmethod(to_gpu)})
    monkeypatch.setattr(backend, "cupy", lambda: stand_in)
    config = GPTConfig(40, 8, n_layer=2, n_head=1, n_embd=32, bias=False)
    flops = []

    def product(g, *factors):
        flops.append(2 * g.m * g.n * g.k)
        return emulated(g, *factors)

    with emulator.running(), precision("bfloat16"):
        emulated = gemm.GEMMS[GPUArray]
        monkeypatch.setitem(gemm.GEMMS, GPUArray, product)
        step = script.tinygpt_step(config, 2)
        clock = script.Events(mark=lambda: len(flops), seconds=lambda a, b: b - a)
        assert script.event_times(step, clock, 1, 2) == [3 * 9] * 2  # 4 products a layer, a head
        assert np.isfinite(to_numpy(step()))
    attention = 7 * 2 * (2 * 8) * 8 * 32  # by a kernel of its own
    assert sum(flops) / 4 == script.product_flops(config, 2) - attention


def test_the_configurations_of_the_table(script):
    shakespeare, B = script.CONFIGS["shakespeare"]
    assert 10.6e6 < shakespeare.parameter_count < 10.8e6
    # modelled for an H200 at 790 TFLOP/s: 1.32 ms of products beside attention, 0.09 in it
    assert 1.3e-3 < script.product_flops(shakespeare, B) / 790e12 < 1.5e-3
    gpt2, B = script.CONFIGS["gpt2"]
    assert 15.4e-3 < script.product_flops(gpt2, B) / 790e12 < 17.5e-3


def test_a_page(script, tmp_path):
    config, B = script.CONFIGS["shakespeare"]
    machine = {
        "gpu": "NVIDIA H200", "cuda": "13.0", "driver": "580.1", "flops": 8e14, "bandwidth": 4e12
    }  # fmt: skip
    ours = script.Result("tinygpt", 0.004, 2_000_000_000, 4.17)
    theirs = script.Result("eager, flash", 0.006, 3_000_000_000, 4.18, [("void k<1>(|)", 3, 1e-3)])
    page = script.table(config, B, machine, [ours, theirs])
    assert "| tinygpt | 4,096,000 | 4.00 | " in page
    assert "| not counted | 2.00 GB | 1.00 | 4.170 |" in page
    assert "| PyTorch eager, flash | 2,730,667 | 6.00 | " in page
    assert "| 3, at work 17% | 3.00 GB | 1.50 | 4.180 |" in page
    assert "| `k` | 3 | 1.000 |" in script.longest(theirs)
    heading = script.heading(machine, "python benchmarks/gpu.py")
    assert "800 TFLOP/s" in heading
    assert "numpy" in heading
    names = [script.save(heading, machine, tmp_path).name for _ in range(2)]
    assert names[0].startswith("nvidia-h200-2")
    assert names[1] == names[0].replace(".md", "-1.md")


def test_without_a_gpu_it_says_what_is_missing(script, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    monkeypatch.setattr(script, "in_a_process", lambda f, *arguments: f(*arguments))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match=r"no measuring here: .* needs CuPy.* -m pip install"):
        script.main()


# ---- the model of a step ------------------------------------------------------------------------


@pytest.fixture
def model(monkeypatch):
    """benchmarks/gpu_model.py, which imports what stands beside it."""
    stored_as("bfloat16")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr(backend, "cupy", backend.cupy)  # which it replaces
    model = load_script(SCRIPT.with_name("gpu_model.py"))
    yield model
    for known in (kernels.launch.LAUNCHERS, gemm.GEMMS):
        known.pop(model.Array, None)


def test_what_a_modelled_step_asks_for(script, model):
    """The operations are those of the floor; the bytes, what its arrays are by hand."""
    config = GPTConfig(40, 16, n_layer=2, n_head=2, n_embd=64, bias=False)
    step = model.tinygpt_step(config, 3, lambda gpt: AdamW(gpt.parameters()))
    assert sum(x.flops for x in step.launches) == script.product_flops(config, 3)
    adamw = next(x for x in step.launches if x.name == "adamw")
    matrices = 2 * 12 * 64 * 64
    assert adamw.bytes == matrices * (7 * 4 + 2) + 4 + 3 * 4  # w, m, v twice, g; the norm, numbers
    attention = [x for x in step.launches if x.attention is not None]
    assert [x.attention for x in attention] == [0, 0, 1, 1, 1, 1]
    assert step.memory > 18 * config.parameter_count  # float32 four times, and in bfloat16
    product = next(x for x in step.launches if x.name == "product")
    assert product.seconds("tinygpt") == model.START + product.bytes / model.BANDWIDTH
    product.flops = 1e12
    assert product.seconds("tinygpt") == model.START + 1e12 / model.NARROW_RATE
    attention[0].flops = 1e12
    assert attention[0].seconds("PyTorch") == model.START + 1e12 / model.ATTENTION["PyTorch"][0]


@pytest.mark.slow
def test_pytorch_is_asked_for_as_much(script, model):
    pytest.importorskip("torch", reason="counts what PyTorch launches, which is not installed")
    config = GPTConfig(40, 16, n_layer=2, n_head=2, n_embd=64, dropout=0.2)
    step = model.torch_step(config, 3)
    assert sum(x.flops for x in step.launches) == script.product_flops(config, 3)
    names = [x.name for x in step.launches]
    assert names.count("native_dropout") == 5
    assert names[-3:] == ["norm", "clip", "adamw"]
    assert step.memory > 16 * config.parameter_count
