"""Run the benchmarks and rewrite RESULTS.md: `make bench`.

    python benchmarks/run_all.py [--only NAME ...] [--peers PYTHON] [--ignite PYTHON]

A benchmark is a program in this folder that prints its section; each runs in a process of its own.
A section that is not run (not named, or its peer is not there) or that fails keeps its earlier
text, and each says when it was measured.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sweeper.train.native.toolchain import processor

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
PACKAGES = ("torch", "numpy", "sweeper")
MARK = "<!-- {} -->"
"""Stands before each section, so that it is found again."""


@dataclass(frozen=True)
class Section:
    """A benchmark, and what it is told."""

    options: tuple[str, ...] = ()
    python: str = ""
    """The option that names the interpreter of its peer."""
    title: str = ""
    """Of one that prints a plain table without a heading."""


SECTIONS = {
    "vs_ignite_simple": Section(python="ignite"),
    "vs_handwritten": Section(),
    "vs_optuna": Section(python="peers"),
    "vs_ray_tune": Section(python="peers"),
    "overhead": Section(python="peers"),
    "programs": Section(),
    "makespan": Section(),
    "scale": Section(("--plot", str(HERE / "scale.png"))),
    "packing": Section(title="What a pack gains"),
    "probes": Section(),
    "tuning": Section(),
    "verdicts": Section(title="Is what is said true?"),
    "generalising": Section(title="Is what is said of new samples true?"),
    "race": Section(title="What a race drops, and what it saves"),
}
"""In the order of RESULTS.md."""


def machine() -> str:
    """What the figures were last measured on, as a list."""
    found = {
        "processor": f"{processor()}, {os.cpu_count()} logical CPUs",
        "system": platform.platform(terse=True),
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(f"- {name}: {value}" for name, value in found.items())


def earlier() -> dict[str, str]:
    """The sections of RESULTS.md as it is, by name."""
    if not RESULTS.exists():
        return {}
    pattern = re.escape(MARK).replace(re.escape("{}"), r"(\w+)")
    _, *parts = re.split(pattern, RESULTS.read_text(encoding="utf-8"))
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def write(sections: dict[str, str]) -> None:
    """RESULTS.md, whole."""
    parts = [f"# Benchmarks\n\nWritten by `make bench`, last on:\n\n{machine()}"]
    parts += [f"{MARK.format(name)}\n{sections[name]}" for name in SECTIONS if name in sections]
    RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def measure(name: str, section: Section, python: str | None) -> str | None:
    """The section as the program prints it now; None where it fails."""
    command = [sys.executable, str(HERE / f"{name}.py"), *section.options]
    if python:
        command += [f"--{section.python}", python]
    load, began = os.getloadavg()[0], time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        print(f"{name} ended with code {done.returncode}", file=sys.stderr)
        return None
    text = done.stdout.strip()
    if section.title and not text.startswith("#"):
        text = f"## {section.title}\n\n```text\n{done.stdout.rstrip()}\n```"
    minutes = (time.monotonic() - began) / 60
    day = dt.datetime.now(dt.UTC).date()
    when = f"{day}, {processor()}, {minutes:.0f} minutes; load of the machine before: {load:.1f}"
    return f"{text}\n\n*{when}.*"


def main() -> None:
    """Run each in turn; RESULTS.md is written after each, so that nothing measured is lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--peers", metavar="PYTHON", help="has what peers.txt names")
    parser.add_argument("--ignite", metavar="PYTHON", help="has what ignite_simple.txt names")
    options = parser.parse_args()
    sections = earlier()
    failed = []
    for name in (name for name in SECTIONS if name in options.only):
        section = SECTIONS[name]
        python = getattr(options, section.python) if section.python else None
        if section.python and not python:
            print(f"{name} is left out: --{section.python} is missing", file=sys.stderr)
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        text = measure(name, section, python)
        if text is None:
            failed.append(name)
        else:
            sections[name] = text
            write(sections)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; their earlier text was kept")


if __name__ == "__main__":
    main()
