"""Whatever dies: the same command finishes the sweep, and the result equals the undisturbed one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence

import pytest

from tests.faults import oracle
from tests.faults.conftest import Calm, disturbed
from tests.faults.disturbed import Disturbed
from tests.faults.results import Results
from tests.faults.table import FAULTS, Fault
from tests.mlflow_server import Server

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "10"))
CONTINUE = os.environ.get("FAULT_CONTINUE", "0") != "0"
_QUICK = ("F02",)


@pytest.fixture
def sweep(calm: Calm, server: Server, request: pytest.FixtureRequest) -> Iterator[Disturbed]:
    fault, number = request.param
    seed = [zlib.crc32(fault.number.encode()), number]
    undisturbed = disturbed(calm.workplace, f"{fault.number.lower()}-{number}", seed, server)
    with undisturbed.stack:
        yield undisturbed
        # There is none of a round that was not run.
        for process in undisturbed.family() if undisturbed.driver else ():
            process.kill()


def _cases(faults: Sequence[Fault], rounds: range) -> pytest.MarkDecorator:
    # Round by round, so that a suite that is cut short has seen every fault.
    cases = [
        pytest.param((fault, number), fault, id=f"{fault.number}-{number}") for number in rounds for fault in faults
    ]
    return pytest.mark.parametrize(("sweep", "fault"), cases, indirect=["sweep"])


@pytest.mark.slow
@pytest.mark.quick
@_cases([fault for fault in FAULTS if fault.number in _QUICK], range(1))
def test_a_disturbed_sweep_ends_as_if_nothing_had_happened(sweep: Disturbed, fault: Fault, calm: Calm) -> None:
    fault.disturb(sweep)
    oracle.check(sweep.sweep, calm.rows, sweep.uri)


@pytest.mark.faults
@pytest.mark.timeout(900)
@_cases(FAULTS, range(1, ROUNDS + 1))
def test_whenever_it_is_disturbed_a_sweep_ends_as_if_nothing_had_happened(
    sweep: Disturbed, fault: Fault, calm: Calm, results: Results
) -> None:
    number = int(sweep.name.rpartition("-")[2])
    if CONTINUE and results.passed(fault.number, number):
        pytest.skip("passed before")

    def record(passed: bool) -> None:
        beyond = sweep.seconds_beyond(calm.restart) / calm.seconds
        results.add(fault.number, number, passed, sweep.seconds / calm.seconds, beyond)

    try:
        fault.disturb(sweep)
        oracle.check(sweep.sweep, calm.rows, sweep.uri)
    except KeyboardInterrupt:
        # Of a suite that somebody stops halfway the fault is not to blame.
        raise
    except BaseException:
        record(passed=False)
        raise
    record(passed=True)
