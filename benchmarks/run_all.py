"""Run the benchmarks that are here and rewrite RESULTS.md: `make bench`.

    python benchmarks/run_all.py [--peers PYTHON] [NAME ...]

A benchmark is a program in this folder that prints its section as Markdown.  What it needs besides
is asked for by the options that its `--help` names; those of `OPTIONS` are passed on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
PACKAGES = ("torch", "numpy", "sweeper")
OPTIONS = {"scale": ["--plot", str(HERE / "scale.png")]}
WITH_PEERS = ("overhead",)
"""Those that take `--peers`."""


def machine() -> str:
    """What the figures were measured on, as a list."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    found = {
        "processor": f"{name}, {os.cpu_count()} logical CPUs",
        "system": platform.platform(terse=True),
        "Python": platform.python_version(),
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(f"- {name}: {value}" for name, value in found.items())


def main() -> None:
    """Run each in turn; one that fails says so in its place."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="by default all")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has the peers")
    options = parser.parse_args()
    present = sorted(file.stem for file in HERE.glob("*.py") if file != Path(__file__).resolve())
    unknown = set(options.names) - set(present)
    if unknown:
        raise SystemExit(f"no benchmark is called {sorted(unknown)}: choose from {present}")
    sections = [f"# Benchmarks\n\nWritten by `make bench`.\n\n{machine()}"]
    for name in options.names or present:
        print(f"{name} …", file=sys.stderr, flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), *OPTIONS.get(name, [])]
        if options.peers and name in WITH_PEERS:
            command += ["--peers", options.peers]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
        failed = f"\n\n`{name}` ended with code {done.returncode}." if done.returncode else ""
        sections.append(done.stdout.strip() + failed)
    RESULTS.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
