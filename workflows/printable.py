"""Text of users as it may reach a terminal or a database: without characters that do something instead of showing."""

from __future__ import annotations

import json
import re
from typing import Any

# C0 and C1 controls but tab and newline (ESC begins a terminal's commands, and so does U+009B; PostgreSQL refuses
# NUL), what reorders the letters of a line, and halves of surrogate pairs, which no file takes.
_COMMAND = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text without a terminal's commands, control characters (but tab and newline), reordering marks, broken Unicode.

    >>> printable("a\\x1b[31mb\\x9b")
    'ab'
    """
    return _UNSAFE.sub("", _COMMAND.sub("", text))


def json_line(value: Any) -> str:
    """A value as JSON on one line: readable letters as they are, every control character as `\\u…`.

    >>> json_line({"label": "gut \\x9b"})
    '{"label": "gut \\\\u009b"}'
    """
    text = json.dumps(value, ensure_ascii=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
