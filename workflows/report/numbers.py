"""Numbers as the report writes them. What is unknown is a dash."""

from __future__ import annotations

NONE = "–"


def score(value: float | None) -> str:
    """A metric with four digits."""
    return NONE if value is None else f"{value:.4f}"


def percent(share: float | None) -> str:
    """A share as percent with one digit."""
    return NONE if share is None else f"{100 * share:.1f} %"


def general(value: float | None) -> str:
    """A learning rate or another setting, as short as it can be written."""
    return NONE if value is None else f"{value:g}"


def whole(value: int | None) -> str:
    """A count in full, with thousands set apart."""
    return NONE if value is None else f"{value:,}"


def count(value: float | None) -> str:
    """A number of parameters: `22.7 M`, `148.6 k`."""
    if value is None:
        return NONE
    if value >= 1e6:
        return f"{value / 1e6:,.1f} M"
    return f"{value / 1e3:.1f} k" if value >= 1e3 else f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """A time: `0.4 s`, `42 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def milliseconds(value: float | None) -> str:
    """A latency with three significant digits: `0.412 ms`, `6.1 ms`, `128 ms`."""
    return NONE if value is None else f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def size(value: float | None) -> str:
    """A number of bytes in decimal units, as file managers and MLflow show them."""
    if value is None:
        return NONE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value < 100 * factor else f"{value / factor:.0f} {unit}"
    return f"{value:.0f} B"
