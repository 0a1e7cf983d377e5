"""NVIDIA's compiler as a library: CUDA C++ to machine code, without a GPU, a driver or CuPy."""

import ctypes
import functools
import importlib.metadata
import re


class NVRTC:
    """The library of the package nvidia-cuda-nvrtc."""

    def __init__(self, builtins, library):
        ctypes.CDLL(builtins, ctypes.RTLD_GLOBAL)  # NVRTC looks for it by name
        self._library = ctypes.CDLL(library)

    def compile(self, source, architecture):
        """What the assembler says of each kernel: {name: (registers, bytes spilled)}.

        The options are those CuPy adds, and the one that has the assembler speak. SyntaxError, with
        the compiler's messages, where the source is not CUDA C++.
        """
        program, count = ctypes.c_void_p(), ctypes.c_size_t()
        options = ["-std=c++17", "-ftz=true", f"-arch={architecture}", "--ptxas-options=-v"]
        encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        call = self._library
        call.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"", 0, None, None)
        try:
            failed = call.nvrtcCompileProgram(program, len(options), encoded)
            call.nvrtcGetProgramLogSize(program, ctypes.byref(count))
            log = ctypes.create_string_buffer(count.value)
            call.nvrtcGetProgramLog(program, log)
        finally:
            call.nvrtcDestroyProgram(ctypes.byref(program))
        text = log.value.decode()
        if failed:
            raise SyntaxError(text)
        found = re.findall(
            r"entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
            r".*?Used (\d+) registers",
            text,
            re.DOTALL,
        )
        return {name: (int(used), int(out) + int(back)) for name, out, back, used in found}


@functools.cache
def nvrtc():
    """The compiler, or None where the package is not installed."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvrtc") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = {}
    for file in files:
        match = re.match(r"libnvrtc(-builtins)?\.so", file.name)
        if match:
            found[match[1]] = str(file.locate())
    return NVRTC(found["-builtins"], found[None])


def main():
    """A line for each kernel: python tests/nvrtc.py sm_90"""
    import sys

    from emulation import PROGRAMS, name_of

    compiler = nvrtc()
    if compiler is None:
        sys.exit("NVRTC is not installed; try: pip install -e '.[kernels]'")
    for program in PROGRAMS:
        for kernel, numbers in compiler.compile(program.source(), sys.argv[1]).items():
            registers, spilled = numbers
            print(f"{name_of(program):22} {kernel:28} {registers:4} registers {spilled:4} spilled")


if __name__ == "__main__":
    main()
