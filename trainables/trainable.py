"""The Tune trainable: the one place on the worker side that knows Ray. Opens a group's trials and runs each.

Ray reuses the process for the next group, so imports are paid once per worker and not once per trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.watchdog import Watchdog


def train_group(config: dict[str, Any]) -> None:
    """Run the trials of one group.

    `config` holds their folders (`trials`), the share of a GPU that the worker was given (`gpus`) and the seconds
    after which a trial without a step is ended (`trial_timeout`). Each progress report goes to the driver through
    `tune.report`. A trial that fails is recorded and does not raise; what ends this function early is the loss of
    its process, which Tune answers by running it again.
    """
    _prepare_process(config["gpus"])
    from trainables.arguments import TrialSpec
    from trainables.directory import TrialDirectory
    from trainables.files import read_json
    from trainables.trial import run_trial
    from trainables.watchdog import Watchdog

    for folder in config["trials"]:
        directory = TrialDirectory(Path(folder))
        if directory.result.exists():
            continue
        spec = TrialSpec.model_validate(read_json(directory.spec)["spec"])
        with Watchdog(spec.trial_id, directory, config["trial_timeout"]) as watchdog:
            report = _reporter(spec.trial_id, watchdog)
            report({})
            result = run_trial(spec, report)
        report(result.outcome())


def _reporter(trial_id: str, watchdog: Watchdog) -> Callable[[dict[str, Any]], None]:
    """Send values to the driver under the key `trial`, because Tune keeps `trial_id` for its own."""
    from ray import tune

    def report(values: dict[str, Any]) -> None:
        watchdog.beat()
        tune.report({"trial": trial_id, "status": "RUNNING"} | values)

    return report


def _prepare_process(gpus: float) -> None:
    """Set what libraries read when they are first imported: no network, no thread pools, no GPU that was not given."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if gpus == 0:
        # Ray leaves the parent's CUDA_VISIBLE_DEVICES to a worker without GPUs, which would then see all of them.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
