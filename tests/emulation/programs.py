"""Every program of kernels that twins start, and its name in C++."""

from tinygpt.kernels.launch import FOLDER, Program

HEAD_SIZES = (32, 64, 128)
CONSTANTS = {"attention.cu": [(("D", D),) for D in HEAD_SIZES]}
PROGRAMS = [
    Program(file.name, scalar, constants)
    for file in sorted(FOLDER.glob("*.cu"))
    for scalar in ("float", "bf16", "f16")
    for constants in CONSTANTS.get(file.name, [()])
]
PROGRAMS += [  # float32 on one side, and what products take on the other
    Program(file, "float", (("result", result),))
    for file in ("layer_norm.cu", "rms_norm.cu", "dropout.cu")
    for result in ("bf16", "f16")
]
# What is run by g++: of f16, which shares all but a few lines with bf16, what training starts.
EMULATED = [
    program
    for program in PROGRAMS
    if program.scalar != "f16" or dict(program.constants).get("D", 32) == 32
]


def name_of(program):
    """attention.cu for bf16 and D = 64 is attention_bf16_D64: a name that C++ can use."""
    stem = program.file.removesuffix(".cu")
    return "_".join([stem, program.scalar, *(f"{name}{n}" for name, n in program.constants)])
