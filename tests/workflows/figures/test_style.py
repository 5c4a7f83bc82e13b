"""What all figures share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workflows.figures.style import GREY, INK, PALETTE, brief, shown, style


def test_no_two_series_look_alike() -> None:
    looks = [(look.colour, look.marker) for look in map(style, range(42))]
    assert len(set(looks)) == 42


def test_ink_is_no_colour_of_the_palette() -> None:
    assert INK.lower() not in {colour.lower() for colour in (*PALETTE, GREY)}


@pytest.mark.parametrize(
    ("text", "expected"), [("a\n b", "a b"), ("x" * 9, "xxxxx…"), ("$x$", "$x$"), ("日本", "□□"), ("", "")]
)
def test_text_is_one_line_cut_and_of_letters_that_the_font_has(text: str, expected: str) -> None:
    assert shown(text, 6) == expected


def test_counts_are_brief() -> None:
    assert [brief(value) for value in (0.5, 200_000, 5e6, 1e9)] == ["0.5", "200 k", "5 M", "1 G"]


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workflows import figures\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figures.save(figures.confusion_matrix([[1]], ['a'], 't'), Path(sys.argv[1]))\n"
        "figures.curves([figures.Curve('a', [1], [1])], 'x', 'y')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "figure.png")], check=True, timeout=60)
