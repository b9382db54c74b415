"""The source files of a problem: its own, and those that it imports.

Installed modules are left out: the standard library, `site-packages`, and `sweeper` itself unless
the problem lies in it.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from sweeper.code.carried import Carried
from sweeper.code.importing import find_importable_spec
from sweeper.errors import ChangedCodeError
from sweeper.workload import Source

MOST_FILES = 300
"""If a problem imports more files, those fewest imports away are kept."""

LARGEST = 2**20
"""Largest file, in bytes, whose text is kept."""


def read_sources(module: ModuleType, imported: Iterable[str] = ()) -> tuple[Source, ...]:
    """The problem's own file, and those that it imports, sorted by label.

    `imported` names the modules that were loaded when the problem was imported: imports by a
    computed name cannot be read off the files.
    """
    own = Path(str(module.__file__)).resolve()
    search = _Search(module)
    search.go_on()
    for name in imported:
        search.see(name)
    search.go_on()
    files = search.files[:MOST_FILES]
    return tuple(sorted((read_source(path, own.parent) for path in files), key=lambda it: it.label))


def read_imported(names: Iterable[str], folder: Path) -> tuple[Source, ...]:
    """The files of modules, and of those that they import, labelled by the path from `folder`."""
    search = _Search(None)
    for name in names:
        search.see(name)
    search.go_on()
    return tuple(read_source(path, folder) for path in search.files[:MOST_FILES])


def read_carried(carried: Carried, label: str) -> tuple[Source, ...]:
    """The code of what has no file as a source, and the files that it imports, sorted by label."""
    folder = Path.cwd()
    # Not Python, so that it is compared by its hash alone: the same text may use other values.
    text = f"{carried.text}\n? SHA-256 of the code and of what it uses: {carried.sha256}\n"
    own = Source(label, str(folder / label), carried.sha256, zlib.compress(text.encode(), 9))
    return tuple(sorted((own, *read_imported(carried.modules, folder)), key=lambda it: it.label))


def read_source(path: Path, folder: Path) -> Source:
    """A file's present text, labelled by its path from `folder`."""
    text = path.read_bytes()
    kept = zlib.compress(text, 9) if len(text) <= LARGEST else b""
    label = Path(os.path.relpath(path, folder)).as_posix()
    return Source(label, str(path), hashlib.sha256(text).hexdigest(), kept)


def imported_by(sources: Iterable[Source]) -> set[str]:
    """The outermost packages that files may import, at any level of their code."""
    found = (name for source in sources for name in _imports(Path(source.path), ""))
    return {name.partition(".")[0] for name in found}


_imported: dict[str, str] = {}
"""By path: the SHA-256 of files when this process first read them."""


def stale_sources(sources: Iterable[Source]) -> tuple[str, ...]:
    """The labels of files that have changed since this process first read them.

    Python does not import changed modules again.
    """
    return tuple(
        source.label
        for source in sources
        if _imported.setdefault(source.path, source.sha256) != source.sha256
    )


def check_sources(files: Iterable[tuple[str, str]]) -> None:
    """Check that files, given by path and SHA-256, have not changed.

    Raises:
        ChangedCodeError: one has; the message names it.
    """
    for path, sha256 in files:
        try:
            now = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError:
            now = ""
        if now != sha256:
            raise ChangedCodeError(
                f"{path} was changed while the sweep ran: a worker that was started since would "
                "train other code"
            )


class _Search:
    """Follows imports from file to file without running them."""

    def __init__(self, module: ModuleType | None) -> None:
        """`module` is the problem's; None: it has no file."""
        self._installed = _installed_folders()
        self._own: str | None = None
        self._files: dict[Path, str] = {}
        """Files in the order in which they were found, each with its package."""
        if module is not None:
            own, package = Path(str(module.__file__)).resolve(), module.__package__ or ""
            self._own, self._files[own] = _package_folder(own, package), package
        self._read = 0
        self._seen: set[str] = set()

    @property
    def files(self) -> list[Path]:
        """All files, fewest imports away first."""
        return list(self._files)

    def go_on(self) -> None:
        """Read the files not yet read, and those that they import."""
        while self._read < len(files := self.files) and len(files) <= MOST_FILES:
            path = files[self._read]
            self._read += 1
            for name in _imports(path, self._files[path]):
                self.see(name)

    def see(self, name: str) -> None:
        """Note the files of a module and of its parent packages."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            part = ".".join(parts[:count])
            if part not in self._seen:
                self._seen.add(part)
                self._note(part)

    def _note(self, name: str) -> None:
        found, is_package = _file_of(name)
        # Most modules are installed, and disk access is slow.
        if not found.endswith(".py") or not self._is_own(found):
            return
        path = Path(found).resolve()
        if path not in self._files and self._is_own(str(path)) and path.is_file():
            self._files[path] = name if is_package else name.rpartition(".")[0]

    def _is_own(self, path: str) -> bool:
        if self._own is not None and path.startswith(self._own):
            return True
        return not path.startswith(self._installed) and not _SITE.search(path)


_SITE = re.compile(rf"{re.escape(os.sep)}(site|dist)-packages{re.escape(os.sep)}")


def _installed_folders() -> tuple[str, ...]:
    """Folders of installed modules."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [Path(sysconfig.get_path(name)) for name in names] + [Path(__file__).parents[1]]
    return tuple(f"{each}{os.sep}" for folder in folders for each in (folder, folder.resolve()))


def _package_folder(own: Path, package: str) -> str:
    """The folder of the outermost package of a file, or just the file."""
    levels = len(package.split(".")) if package else 0
    inside = 0 < levels <= len(own.parents)
    return f"{own.parents[levels - 1]}{os.sep}" if inside else str(own)


def _file_of(name: str) -> tuple[str, bool]:
    """A module's file, empty if none, and whether it is a package."""
    module = sys.modules.get(name)
    if module is not None:
        path = getattr(module, "__file__", None)
        # Synthetic modules may name a file that does not exist.
        known = isinstance(path, str) and path.startswith(os.sep)
        return str(path) if known else "", hasattr(module, "__path__")
    spec = find_importable_spec(name)
    if spec is None or not spec.has_location or spec.origin is None:
        return "", False
    return spec.origin, spec.submodule_search_locations is not None


# -- what a file imports --------------------------------------------------------------------------


def _imports(path: Path, package: str) -> list[str]:
    """The full names of all modules that a file may import, at any level of its code."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError):
        return []
    found: dict[str, None] = {}
    for node in _run(tree):
        found |= dict.fromkeys(_names(node, package))
    return list(found)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """A node and its descendants, without code for scripts or type checkers only."""
    yield node
    if isinstance(node, ast.If) and _is_for_others(node.test):
        children: Iterable[ast.AST] = node.orelse
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from _run(child)


def _is_for_others(test: ast.expr) -> bool:
    return ast.unparse(test) in {
        "__name__ == '__main__'",
        "'__main__' == __name__",
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    }


def _names(node: ast.AST, package: str) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [each.name for each in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            base = ".".join(part for part in [*above, module or ""] if part)
            # A name imported from a package may be a module in it.
            return [base, *(f"{base}.{each.name}" for each in names)] if base else []
        case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function), args=[first, *_]):
            if function in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                return [first.value] if isinstance(first.value, str) else []
    return []
