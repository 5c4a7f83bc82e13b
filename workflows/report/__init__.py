"""The report of a sweep: one HTML file that needs nothing else, with every figure and its data as files beside it.

`content` reads a sweep directory into plain values, the section files turn them into blocks (`page`), and `render`
writes the page. Nothing here reads a clock: the same directory gives the same bytes.
"""

from __future__ import annotations

from workflows.report.render import write_report

__all__ = ["write_report"]
