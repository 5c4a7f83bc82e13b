"""The driver is killed again and again, at whatever moment: no finished epoch is trained twice, no run is doubled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from tests.faults import oracle
from tests.faults.conftest import Calm, disturbed
from tests.faults.disturbed import Disturbed, gone
from tests.faults.results import Results
from tests.mlflow_server import Server
from trainables.files import read_json

KILLS = int(os.environ.get("FAULT_KILLS", "3"))
SEED = 20261126


@pytest.fixture
def sweeps(calm: Calm, server: Server) -> Iterator[Iterator[Disturbed]]:
    """One small sweep after the other."""
    begun: list[Disturbed] = []

    def one_by_one() -> Iterator[Disturbed]:
        while True:
            number = len(begun)
            begun.append(disturbed(calm.workplace, f"kills-{number}", [SEED, number], server))
            yield begun[-1]

    yield one_by_one()
    for sweep in begun[-1:]:
        for process in sweep.family():
            process.kill()


def epochs(sweep: Disturbed) -> dict[str, bytes]:
    """What is recorded of each finished epoch, the moment when it was measured included.

    For trials that train together an epoch is finished when each of them has it.
    """
    if not sweep.sweep.manifest.exists():
        return {}
    found: dict[str, bytes] = {}
    for group in read_json(sweep.sweep.manifest)["groups"]:
        recorded = [sweep.sweep.trial(trial_id).epochs() for trial_id in group]
        for together in zip(*recorded, strict=False):
            found |= {str(path): path.read_bytes() for path in together}
    return found


@pytest.mark.faults
@pytest.mark.timeout(600 + 180 * KILLS)
def test_a_driver_that_is_killed_again_and_again_loses_no_finished_epoch_and_doubles_no_run(
    sweeps: Iterator[Disturbed], calm: Calm, results: Results
) -> None:
    moments, kills, kept = np.random.default_rng(SEED), 0, 0
    for number, sweep in enumerate(sweeps, start=1):  # noqa: B007 - told at the end
        finished: dict[str, bytes] = {}
        # Each sweep goes on under fire until it has ended all the same; the last one is left to end.
        while kills < KILLS and killed_on_the_way(sweep, moments.uniform(0, 1.1 * calm.seconds)):
            kills += 1
            finished |= epochs(sweep)
        if kills == KILLS:
            sweep.finish()
        oracle.check(sweep.sweep, calm.rows, sweep.uri)
        left = epochs(sweep)
        changed = [path for path, content in finished.items() if left.get(path) != content]
        assert not changed, changed
        kept += len(finished)
        if kills == KILLS:
            break
    results.say(
        "kills",
        f"The driver was killed {kills} times in a row at random moments, in {number} sweeps: of {kept} epochs that "
        "were finished then none was trained again, no run and no point was doubled.",
    )


def killed_on_the_way(sweep: Disturbed, seconds: float) -> bool:
    """Begin or continue the sweep and kill its driver after so many seconds; False where it has ended well by then."""
    driver = sweep.start()
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        workers = sweep.workers()
        driver.kill()
        sweep.wait()
        # Until then they may still finish an epoch.
        assert gone(workers)
        return True
    sweep.ends_well()
    return False
