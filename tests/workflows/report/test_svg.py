"""SVG of the page: text stays text and inert, ids are its own, and two figures never share one."""

from __future__ import annotations

import re

import pytest

from workflows.figures import Curve, confusion_matrix, curves
from workflows.figures.style import INK
from workflows.report.svg import inline

HOSTILE = ["</svg><script>alert(1)</script>", 'a" id="x" onload="alert(1)', INK, "&lt;"]


def hostile() -> str:
    return str(inline(confusion_matrix([[1] * 4] * 4, HOSTILE, "t"), "m", '"><script>alert(2)</script>'))


def test_names_stay_text() -> None:
    svg = hostile()
    assert "<script" not in svg and svg.count("</svg>") == 1
    assert re.findall(r'\son\w+="', re.sub(r">[^<]*<", "><", svg)) == []
    assert f">{INK}<" in svg, "a label that is spelled like the ink stays as it is"


def test_it_says_what_it_shows() -> None:
    assert 'role="img"' in hostile()
    assert 'aria-label="&quot;&gt;&lt;script&gt;alert(2)&lt;/script&gt;"' in hostile()


def test_ids_are_prefixed_and_all_referred_to() -> None:
    one, other = (str(inline(curves([Curve("a", [1, 2], [1, 2])], "x", "y"), name, "alt")) for name in ("one", "other"))
    ids, used = set(re.findall(r'\bid="([^"]+)"', one)), set(re.findall(r'(?:href="#|url\(#)([^")]+)', one))
    assert ids == used and ids
    assert all(name.startswith("one-") for name in ids)
    assert not ids & set(re.findall(r'\bid="([^"]+)"', other))


@pytest.mark.parametrize("left_out", ["http", "<style", "<metadata", "xmlns", "ns0:"])
def test_nothing_of_a_stand_alone_file_is_left(left_out: str) -> None:
    assert left_out not in hostile()
