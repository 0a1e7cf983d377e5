"""Every kernel through NVIDIA's compiler, for GPUs that need not be here.

A kernel whose numbers do not fit the registers spills them into memory, and is slow without a word:
here that is a failure.
"""

import pytest
from emulation import PROGRAMS, name_of
from emulation.build import KERNEL
from nvrtc import nvrtc

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")  # A100; H100 and H200; B200


def combinations():
    """Every program for every architecture; what is not slow gives each kernel to one of them."""
    for i, program in enumerate(PROGRAMS):
        quick = "sm_90" if program.scalar == "bf16" else ("sm_80", "sm_100")[i % 2]
        heavy = program.file == "attention.cu" and program.scalar == "float"
        for architecture in ARCHITECTURES:
            slow = architecture != quick or (heavy and dict(program.constants)["D"] != 32)
            f16 = "f16" in (program.scalar, dict(program.constants).get("result"))
            slow |= f16 and program.file != "gelu.cu"  # as bf16 but for words
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(
                program, architecture, marks=marks, id=f"{name_of(program)}-{architecture}"
            )


@pytest.fixture(scope="module")
def compiler():
    if nvrtc() is None:
        pytest.skip("compiles kernels by NVRTC, which is not installed: nvidia-cuda-nvrtc")
    return nvrtc()


@pytest.mark.parametrize(("program", "architecture"), list(combinations()))
def test_kernels_compile_and_spill_nothing(compiler, program, architecture):
    kernels = compiler.compile(program.source(), architecture)
    assert set(kernels) == set(KERNEL.findall(program.source()))
    assert {name: spilled for name, (_, spilled) in kernels.items() if spilled} == {}


def test_a_spill_is_noticed(compiler):
    greedy = """
    extern "C" __global__ void __launch_bounds__(1024) greedy(float *x, int n) {
        float v[100] = {};  // more than the 64 registers that a thread of 1024 can have
        for (int k = 0; k < n; k++) {
            for (int i = 0; i < 100; i++) v[i] = v[i] * v[(i + 1) % 100] + x[k];
        }
        for (int i = 0; i < 100; i++) x[i] = v[i];
    }"""
    registers, spilled = compiler.compile(greedy, "sm_90")["greedy"]
    assert registers == 64
    assert spilled > 0


def test_what_is_not_cuda_is_noticed(compiler):
    source = PROGRAMS[0].source().replace("blockDim", "blockdim")
    with pytest.raises(SyntaxError, match="blockdim"):
        compiler.compile(source, "sm_90")
