"""A matplotlib figure as SVG that belongs to the page: it takes the page's ink and face, and repeats no id of another.

Text stays text (`svg.fonttype: none`), so it is small, sharp and readable by a screen reader's user who opens it.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

from markupsafe import Markup

from workflows.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REFERENCE = re.compile(r"url\(#([^)]+)\)")
# CSS pixels in a point.
_PIXELS = 4 / 3
# A figure shrinks to this share of its size on a narrow screen, then it scrolls: its type stays legible.
_LEAST = 0.7
_DRAWN = ("path", "g", "text", "tspan", "use", "rect", "image", "defs", "clipPath", "svg")


def inline(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as one `<svg role="img">`; `name` is unique on the page, `alt` says what it shows."""
    # matplotlib wrote it a line above; nothing in it comes from elsewhere.
    root = ElementTree.fromstring(_draw(figure, name))  # noqa: S314
    for element in list(root.iter()):
        for child in [child for child in element if _local(child.tag) not in _DRAWN or _is_style(child)]:
            element.remove(child)
    used = {reference for element in root.iter() for reference in _references(element)}
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = _attributes(dict(element.attrib), name, used)
        element.tail = None
        if element.tag not in ("text", "tspan"):
            element.text = None
    width, height = (float(root.attrib[side].removesuffix("pt")) for side in ("width", "height"))
    root.attrib = {
        "role": "img",
        "aria-label": alt,
        "viewBox": root.attrib["viewBox"],
        "style": f"width:{width * _PIXELS:.0f}px;min-width:{width * _PIXELS * _LEAST:.0f}px;"
        f"aspect-ratio:{width:.6g}/{height:.6g}",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by ElementTree


def _draw(figure: Figure, name: str) -> bytes:
    import matplotlib

    stream = io.BytesIO()
    # The salt makes ids that do not change from one run to the next.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", facecolor="none", edgecolor="none", metadata={"Date": None})
    # Laid out once is enough: the PNG that is drawn next looks the same.
    figure.set_layout_engine("none")
    return stream.getvalue()


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _is_style(element: ElementTree.Element) -> bool:
    """Definitions that hold matplotlib's style sheet only; it would apply to the whole page."""
    return _local(element.tag) == "defs" and all(_local(child.tag) == "style" for child in element)


def _references(element: ElementTree.Element) -> list[str]:
    found = [match for value in element.attrib.values() for match in _REFERENCE.findall(value)]
    links = [value for key, value in element.attrib.items() if _local(key) == "href" and value.startswith("#")]
    return found + [link[1:] for link in links]


def _attributes(attributes: dict[str, str], name: str, used: set[str]) -> dict[str, str]:
    """Local names, ink as currentColor, and only the ids that are referred to, prefixed by the figure's name."""
    kept = {}
    for key, value in attributes.items():
        local = _local(key)
        if local == "id":
            if value in used:
                kept[local] = f"{name}-{value}"
        elif local == "href" and value.startswith("#"):
            kept[local] = f"#{name}-{value[1:]}"
        else:
            inked = re.sub(INK, "currentColor", value, flags=re.IGNORECASE)
            kept[local] = _REFERENCE.sub(rf"url(#{name}-\1)", inked)
    return kept
