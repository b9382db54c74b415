"""Makes text safe to print: without escape sequences that a terminal would act on."""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links, the clipboard
    r"|\x1b[PX^_][^\x1b]*\x1b\\"  # strings to the device
    r"|\x1b[ -/]*[0-~]"
)
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction in which text is displayed."""


def clean(text: str) -> str:
    """`text` without escape sequences and control characters; newlines and tabs are kept."""
    return "".join(filter(_is_harmless, _ESCAPES.sub("", text)))


def clean_line(text: str, longest: int | None = None) -> str:
    """`text` as one clean line, cut to `longest` characters."""
    line = clean(" ".join(text.split()))
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def _is_harmless(character: str) -> bool:
    if character in "\n\t":
        return True
    # A lone surrogate cannot be encoded.
    controls = {"Cc", "Cs", "Zl", "Zp"}
    return unicodedata.category(character) not in controls and character not in _REORDERING
