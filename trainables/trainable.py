"""The Tune trainable: the one place on the worker side that knows Ray. Opens a group's trials and runs each.

Ray reuses the process for the next group, so imports are paid once per worker and not once per trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.arguments import TrialSpec
    from trainables.watchdog import Watchdog

# The key of a report by which a scheduler may stop a trial: its validation metric after an epoch. The last epoch has
# none, because a trial that has trained to its end is scored on test, whatever a scheduler thinks of it.
SCORE = "score"


def train_group(config: dict[str, Any]) -> None:
    """Run the trials of one group.

    `config` holds their folders (`trials`), the ways by which this attempt reaches them (`attempts`, see
    `workflows.attempts`), the share of a GPU that the worker was given (`gpus`) and the seconds after which a trial
    without a step is ended (`trial_timeout`). Each progress report goes to the driver through
    `tune.report`. A trial that fails is recorded and does not raise; what ends this function early is the loss of
    its process, which Tune answers by running it again, or a scheduler that stops the trial: then `tune.report` does
    not return (it raises SystemExit), and the driver records the trial's end.
    """
    prepare_process(config["gpus"])
    from trainables.arguments import TrialSpec
    from trainables.directory import TrialDirectory
    from trainables.files import read_json
    from trainables.group import run_group
    from trainables.watchdog import Watchdog

    folders = [TrialDirectory(Path(folder)) for folder in config["attempts"]]
    waiting = [directory for directory in folders if not directory.result.exists()]
    specs = [
        TrialSpec.model_validate(read_json(directory.spec)["spec"] | {"directory": str(directory.root)})
        for directory in waiting
    ]
    with Watchdog(waiting, config["trial_timeout"]) as watchdog:
        reports = {spec.trial_id: _reporter(spec, watchdog) for spec in specs}
        for report in reports.values():
            report({})
        for result in run_group(specs, list(reports.values())):
            reports[result.trial_id](result.outcome())


def _reporter(spec: TrialSpec, watchdog: Watchdog) -> Callable[[dict[str, Any]], None]:
    """Send values to the driver under the key `trial`, because Tune keeps `trial_id` for its own."""
    from ray import tune

    def report(values: dict[str, Any]) -> None:
        if "epoch" in values and "metrics" in values:
            values = values | score(spec, values["epoch"], values["metrics"])
        # A stopped trial waits here until its process is needed for another one.
        with watchdog.paused():
            tune.report({"trial": spec.trial_id, "status": "RUNNING"} | values)

    return report


def score(spec: TrialSpec, epoch: int, metrics: dict[str, float]) -> dict[str, float]:
    """What a report after an epoch says to a scheduler: SCORE, or nothing after the last one."""
    if epoch >= spec.training.num_train_epochs:
        return {}
    return {SCORE: metrics[f"validation/{spec.training.metric_for_best_model}"]}


def prepare_process(gpus: float) -> None:
    """Set what libraries read when they are first imported: no network, no thread pools, no GPU that was not given."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if gpus == 0:
        # Ray leaves the parent's CUDA_VISIBLE_DEVICES to a worker without GPUs, which would then see all of them.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
