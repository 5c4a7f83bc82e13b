"""Confusion matrices: what they show, whatever the labels are called."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from workflows.figures import confusion_matrix, save

HOSTILE = ["C#", "50%", "😀", "x" * 300, "a\nb", "$\\frac{1}{$", "$x^2$", "", "日本語"]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def tick_names(figure: Any, axis: str = "y") -> list[str]:
    return [label.get_text() for label in getattr(figure.axes[0], f"get_{axis}ticklabels")()]


def test_cells_hold_counts_and_are_shaded_by_the_share_of_their_row() -> None:
    figure = confusion_matrix([[3, 1], [0, 0]], ["no", "yes"], "test")
    assert texts(figure) == ["3", "1", "0", "0"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("true", "predicted")
    assert tick_names(figure, "x") == tick_names(figure, "y") == ["no", "yes"]


def test_normalised_cells_hold_the_percent_of_their_row() -> None:
    figure = confusion_matrix([[2, 1], [0, 0]], ["no", "yes"], "test", percent=True)
    assert texts(figure) == ["67", "33", "0", "0"]


@pytest.mark.parametrize("classes", [1, 2, 3, 13, 70])
def test_any_number_of_classes_fits_the_page(classes: int, tmp_path: Path) -> None:
    figure = confusion_matrix(np.eye(classes, dtype=int).tolist(), [f"class {i}" for i in range(classes)], "t")
    figure.draw_without_rendering()
    page = figure.bbox
    for label in (*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels(), figure.axes[0].title):
        box = label.get_window_extent()
        assert box.x0 >= page.x0 and box.y0 >= page.y0 and box.x1 <= page.x1 and box.y1 <= page.y1
    assert figure.get_figwidth() < 26


def test_names_are_shown_as_written_whatever_they_are(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = confusion_matrix(np.eye(len(HOSTILE), dtype=int).tolist(), HOSTILE, "$\\bad{ title")
        save(figure, tmp_path / "new" / "figure.png")
    names = tick_names(figure)
    assert names[:2] == ["C#", "50%"]
    assert (len(names[3]), names[4], names[5], names[8]) == (28, "a b", "$\\frac{1}{$", "□□□")
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(b"\x89PNG")


def luminance(colour: Any) -> float:
    """Relative luminance of a colour, as WCAG 2 defines it."""
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def test_every_number_can_be_read_on_its_shade() -> None:
    for share in range(0, 101, 5):
        figure = confusion_matrix([[share, 100 - share], [0, 1]], ["no", "yes"], "test")
        (cells,) = figure.axes[0].images
        shades = [cells.cmap(cells.norm(part)) for part in np.ravel(cells.get_array())]
        for shade, text in zip(shades, figure.axes[0].texts, strict=True):
            dark, light = sorted((luminance(shade[:3]), luminance(text.get_color())))
            assert (light + 0.05) / (dark + 0.05) >= 4.4, (share, text.get_text())
