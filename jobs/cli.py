"""The `fleetune` command: every entry point of this folder under one name."""

from __future__ import annotations

from jobs.check import check
from jobs.demo import demo
from jobs.evaluate import evaluate
from jobs.export import export
from jobs.init import init
from jobs.plan import plan
from jobs.predict import predict
from jobs.report import report
from jobs.run import application, run
from jobs.sweep import sweep
from jobs.sync import sync
from jobs.ui import ui


def main() -> None:
    """Which pretrained encoder, with how much of it frozen and at which learning rate, classifies my text best?"""
    run(
        application(
            init=init,
            check=check,
            plan=plan,
            sweep=sweep,
            report=report,
            predict=predict,
            evaluate=evaluate,
            export=export,
            ui=ui,
            sync=sync,
            demo=demo,
        )
    )


if __name__ == "__main__":
    main()
