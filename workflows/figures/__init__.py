"""Figures as matplotlib Figure objects, each a function of plain values: no pyplot, so no global state and no window.

Colours are safe for colour blindness (Okabe and Ito 2008) and never stand alone: every line has its own marker and
dash, too. Shading is one hue from light to dark. Text from data is shown as written: never read as TeX, cut where long.
"""

from __future__ import annotations

from workflows.figures.confidence import coverage, reliability
from workflows.figures.curves import Curve, block_rates, curves, learning_rate, schedules
from workflows.figures.dots import Panel, dots, panels
from workflows.figures.matrix import confusion_matrix
from workflows.figures.scatter import Spot, scatter
from workflows.figures.style import brief, save

__all__ = [
    "Curve",
    "Panel",
    "Spot",
    "block_rates",
    "brief",
    "confusion_matrix",
    "coverage",
    "curves",
    "dots",
    "learning_rate",
    "panels",
    "reliability",
    "save",
    "scatter",
    "schedules",
]
