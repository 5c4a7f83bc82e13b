"""Whatever dies: the same command finishes the sweep, and the result equals the undisturbed one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator

import pytest

from tests.faults import oracle
from tests.faults.conftest import Calm, disturbed
from tests.faults.disturbed import Disturbed
from tests.faults.results import Results
from tests.faults.table import FAULTS, Fault
from tests.mlflow_server import Server

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "10"))
_QUICK = ("F02",)


@pytest.fixture
def sweep(calm: Calm, server: Server, request: pytest.FixtureRequest) -> Iterator[Disturbed]:
    fault, number = request.param
    seed = [zlib.crc32(fault.number.encode()), number]
    undisturbed = disturbed(calm.workplace, f"{fault.number.lower()}-{number}", seed, server)
    with undisturbed.stack:
        yield undisturbed
        for process in undisturbed.family():
            process.kill()


def _cases(faults: Iterable[Fault], rounds: range) -> pytest.MarkDecorator:
    cases = [
        pytest.param((fault, number), fault, id=f"{fault.number}-{number}") for fault in faults for number in rounds
    ]
    return pytest.mark.parametrize(("sweep", "fault"), cases, indirect=["sweep"])


@pytest.mark.slow
@_cases((fault for fault in FAULTS if fault.number in _QUICK), range(1))
def test_a_disturbed_sweep_ends_as_if_nothing_had_happened(sweep: Disturbed, fault: Fault, calm: Calm) -> None:
    fault.disturb(sweep)
    oracle.check(sweep.sweep, calm.rows, sweep.uri)


@pytest.mark.faults
@pytest.mark.timeout(900)
@_cases(FAULTS, range(1, ROUNDS + 1))
def test_whenever_it_is_disturbed_a_sweep_ends_as_if_nothing_had_happened(
    sweep: Disturbed, fault: Fault, calm: Calm, results: Results
) -> None:
    passed = False
    try:
        fault.disturb(sweep)
        oracle.check(sweep.sweep, calm.rows, sweep.uri)
        passed = True
    finally:
        results.add(fault.number, passed, sweep.seconds / calm.seconds)
