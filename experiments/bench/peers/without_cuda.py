"""Makes PyPI's PyTorch for Linux import on a machine without NVIDIA's libraries.

That wheel is built for CUDA: its shared objects name cuBLAS, cuDNN, NCCL and others as needed, 2.5 GB that a CPU never
runs, and that would count in the process's peak memory, to PyTorch's disadvantage. So they are not installed; for each that
is missing, this puts a stand-in beside PyTorch's own libraries. Its functions return an error code, and none is ever called:
the real CUDA runtime (2 MB, installed) finds no device first. The code that computes on the CPU is PyTorch's, untouched.

Run by the interpreter of the environment, after pip. Needs gcc, nm and objdump. Does nothing where nothing is missing.
"""

import importlib.util
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

NVIDIA = re.compile(r"^lib((?:cu|nv|nccl)[a-z]*)\w*\.so\.\d+$", re.IGNORECASE)


def lines_of(*command: str | Path) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def needed_libraries(library: Path) -> set[str]:
    """The NVIDIA libraries that `library` asks the loader for."""
    words = [line.split() for line in lines_of("objdump", "-p", library)]
    return {pair[1] for pair in words if pair[:1] == ["NEEDED"] and NVIDIA.match(pair[1])}


def undefined_symbols(library: Path) -> set[str]:
    """Its undefined symbols, as `name` or `name@version`."""
    return {line.split()[-1] for line in lines_of("nm", "-D", "--undefined-only", library)}


def build_stand_in(target: Path, symbols: set[str]) -> None:
    """Compiles a library of functions that return 1 (an error in every NVIDIA interface), under the versions asked for."""
    versions = defaultdict(list)
    for symbol in sorted(symbols):
        name, _, version = symbol.partition("@")
        versions[version].append(name)
    names = sorted({name for group in versions.values() for name in group})
    nodes = [f"{version} {{ global: {'; '.join(group)}; }};" for version, group in versions.items() if version]
    with tempfile.NamedTemporaryFile("w", suffix=".map") as script:
        script.write("\n".join(nodes))
        script.flush()
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", target, f"-Wl,-soname,{target.name}"]
            + ([f"-Wl,--version-script={script.name}"] if nodes else []),
            input="".join(f"int {name}(void) {{ return 1; }}\n" for name in names), check=True, text=True,
        )


def main() -> None:
    folder = Path(importlib.util.find_spec("torch").origin).parent / "lib"
    libraries = [*folder.glob("libtorch*.so"), *folder.glob("libc10*.so")]
    installed = {path.name for root in (folder, folder.parents[1] / "nvidia") for path in root.glob("**/*.so.*")}
    missing = set().union(*map(needed_libraries, libraries)) - installed
    symbols = set().union(*map(undefined_symbols, libraries))
    for name in sorted(missing):
        prefix = NVIDIA.match(name)[1].lower()
        build_stand_in(folder / name, {symbol for symbol in symbols if symbol.lower().startswith(prefix)})


if __name__ == "__main__":
    main()
