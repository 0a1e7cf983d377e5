"""Programs of kernels, compiled by g++ into one library."""

import ctypes
import hashlib
import itertools
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-Og", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing", "-fno-exceptions"]
FLAGS += ["-w", "-shared", "-fPIC", "-x", "c++"]
KERNEL = re.compile(r"^KERNEL void (?:__launch_bounds__\([\w, ]+\)\s+)?(\w+)\(", re.MULTILINE)


def build(sources, folder):
    """sources: {name: text of a program}, each becoming a namespace -> a library of them all.

    It is written to `folder`, under a name that its text decides, and found there the next time.
    """
    parts = [(HERE / "gpu.h").read_text(encoding="utf-8")]
    for name, source in sources.items():
        kernels = KERNEL.findall(source)
        defines = itertools.takewhile(lambda line: line.startswith("#define"), source.splitlines())
        undo = "".join(f"#undef {line.split()[1]}\n" for line in defines)
        parts.append(f"namespace {name} {{\n{source}\n}}\n{undo}")
        parts.extend(f"EXPORT({name}, {kernel})\n" for kernel in kernels)
    text = "".join(parts)
    library = Path(folder) / f"kernels-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        unfinished = library.with_suffix(".tmp")
        command = ["g++", *FLAGS, "-", "-o", str(unfinished)]
        subprocess.run(command, input=text, text=True, check=True)
        unfinished.replace(library)
    return ctypes.CDLL(str(library))
