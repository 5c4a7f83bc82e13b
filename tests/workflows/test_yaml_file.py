"""YAML 1.2 scalars, duplicate keys, tags, aliases, and the line of every value."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import BadInput
from workflows import yaml_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("2.0e-5", 2e-5),
        ("012", 12),
        ("0x1F", 31),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("1.0", 1.0),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ('"1e-5"', "1e-5"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert yaml_file.parse(f"a: {text}").value == {"a": value}


def test_keys_stay_text_as_typed() -> None:
    assert yaml_file.parse("{0: negative, 1.0: x, no: y}").value == {"0": "negative", "1.0": "x", "no": "y"}


def test_every_value_knows_its_line() -> None:
    document = yaml_file.parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "file.yaml")
    assert document.where(("a",)) == "file.yaml:1"
    assert document.where(("b", 1, "c")) == "file.yaml:4"
    assert document.where(("b", 1, "unknown")) == "file.yaml:4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "file.yaml:3: the key 'a' stands twice (first on line 1)"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !custom x", "tag"),
        ("a: [1, 2", "file.yaml:1: not valid YAML"),
        ("a: &x [*x]", "contain themselves"),
        ("? [1, 2]\n: 3", "a key must be a plain word"),
        ("a: *unknown", "not valid YAML"),
        ('a: x\nb: "\\ud800"', "file.yaml:2: '\\ud800' holds half of a Unicode surrogate pair"),
        ('"\\ud800": x', "file.yaml:1: '\\ud800' holds half of a Unicode surrogate pair"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(BadInput, match=r"^file\.yaml") as refused:
        yaml_file.parse(text, "file.yaml")
    assert expected in str(refused.value)


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(BadInput, match="aliases expand"):
        yaml_file.parse("\n".join(lines))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(BadInput, match=str(path)):
            yaml_file.load(path)


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_a_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        yaml_file.parse(text)


@given(st.text(alphabet="0123456789.eE+-_:~#,xo nulltrueNaN\n") | st.text())
def test_any_text_that_is_dumped_is_read_as_the_same_text(text: str) -> None:
    dumped = yaml_file.dump({"name": text, "labels": [text]})
    assert yaml_file.parse(dumped, "x").value == {"name": text, "labels": [text]}
