"""One YAML loader: YAML 1.2 core scalars, no duplicate keys, no tags, and the line of every value.

PyYAML reads YAML 1.1, where `1e-5` is text, `012` is 10, `no` is False, and a duplicate key wins silently.
Sweep files hold learning rates and label names, so those readings are refused here. Keys stay text as typed.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trainables.errors import BadInput

Location = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50

# Python converts no longer numbers from text or into it (sys.set_int_max_str_digits).
_INT = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,200}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
# What PyYAML would leave in single quotes, where it is read as a space.
_UNUSUAL_BREAKS = re.compile(r"[\r\x85\u2028\u2029\ufeff]")


@dataclass
class Document:
    """A parsed file: its value, and for each location in it where it was written (`file:line`)."""

    source: str
    value: Any
    marks: dict[Location, str] = field(default_factory=dict)

    def where(self, location: Location) -> str:
        """`file:line` of a location, or of the nearest thing around it."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.marks:
                return self.marks[location[:length]]
        return self.source


def load(path: Path) -> Document:
    """Read a YAML file; raise BadInput with file and line for anything that is not plain YAML 1.2 data."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path}: larger than {MAX_BYTES:,} bytes; a sweep file is a page of text")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file{_near(path)}") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder; name a YAML file in it") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{str(path)!a}: cannot be a path: {error}") from None
    return parse(text, str(path))


def parse(text: str, source: str = "<text>") -> Document:
    """Parse YAML text. `source` is the name that error messages carry."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise BadInput(f"{source}:{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{source}: not valid YAML: {error}") from None
    except RecursionError:
        raise BadInput(f"{source}: is nested too deeply") from None
    document = Document(source, None)
    document.value = None if node is None else _Builder(document).build(node, ())
    return document


def _near(path: Path) -> str:
    """The file beside it that may be meant."""
    with contextlib.suppress(OSError):
        beside = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
        if close := difflib.get_close_matches(path.name, beside, n=1):
            return f"; did you mean '{path.parent / close[0]}'?"
    return ""


def scalar(text: str) -> Any:
    """Read one plain scalar by the YAML 1.2 core schema.

    >>> scalar("1e-5"), scalar("no"), scalar("012")
    (1e-05, 'no', 12)
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
    return text


def dump(value: Any) -> str:
    """YAML of plain values that `load` reads as the same values: text that YAML 1.2 takes for a number is quoted.

    >>> dump({"name": "2e-5", "rates": [2e-05]})
    'name: "2e-5"\\nrates:\\n- 2.0e-05\\n'
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which quotes what YAML 1.1 would not read as text; what 1.2 would not is quoted as well."""

    def text(self, value: str) -> yaml.ScalarNode:
        is_plain = isinstance(scalar(value), str) and not _UNUSUAL_BREAKS.search(value)
        style = None if is_plain else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)


class _Builder:
    """Turns composed nodes into values, noting lines; counts values so that nested aliases cannot explode."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.open: set[int] = set()
        self.count = 0

    def build(self, node: yaml.Node, location: Location) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or id(node) in self.open:
            raise BadInput(f"{self._at(node)}: aliases expand to more than {MAX_VALUES:,} values or contain themselves")
        if len(location) > MAX_DEPTH:
            raise BadInput(f"{self._at(node)}: is nested too deeply; a sweep file has a handful of levels")
        self.document.marks.setdefault(location, self._at(node))
        self.open.add(id(node))
        try:
            return self._value(node, location)
        finally:
            self.open.discard(id(node))

    def _value(self, node: yaml.Node, location: Location) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(item, (*location, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and not node.tag.startswith("!") and ":python" not in node.tag:
            self._refuse_half_a_letter(node)
            return node.value if node.style else scalar(node.value)
        raise BadInput(f"{self._at(node)}: the tag {node.tag} is not allowed; use plain values")

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise BadInput(f"{self._at(key_node)}: a key must be a plain word")
            self._refuse_half_a_letter(key_node)
            key = key_node.value
            if key in first:
                raise BadInput(f"{self._at(key_node)}: the key '{key}' stands twice (first on line {first[key]})")
            first[key] = key_node.start_mark.line + 1
            self.document.marks[(*location, key)] = self._at(key_node)
            result[key] = self.build(value_node, (*location, key))
        return result

    def _refuse_half_a_letter(self, node: yaml.ScalarNode) -> None:
        """An escape such as \\ud800 alone is no text that a file or a database could hold."""
        try:
            node.value.encode()
        except UnicodeEncodeError:
            raise BadInput(f"{self._at(node)}: {node.value[:40]!a} holds half of a Unicode surrogate pair") from None

    def _at(self, node: yaml.Node) -> str:
        return f"{self.document.source}:{node.start_mark.line + 1}"
