"""One driver per sweep: real processes that hold, lose and take over a lease."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from workflows.lease import Holder, held

ROOT = Path(__file__).parents[2]
HEARTBEAT = 0.1

_HOLD = f"""
import sys, time
from pathlib import Path
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from workflows.interrupts import interruptible
from workflows.lease import held

try:
    with held(SweepDirectory(Path(sys.argv[1])), heartbeat={HEARTBEAT}) as lease:
        with interruptible():
            print("held", flush=True)
            time.sleep(float(sys.argv[2]))
except InfrastructureError:
    print("refused", flush=True)
except KeyboardInterrupt:
    print("lost" if lease.is_lost else "interrupted", flush=True)
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that takes the lease of a sweep and holds it for some seconds."""
    started = []

    def start(seconds: float = 60) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _HOLD, str(tmp_path), str(seconds)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_and_told_who_holds_the_lease(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    first = hold()
    assert says(first) == "held"
    with pytest.raises(InfrastructureError, match=f"process {first.pid} on "), held(SweepDirectory(tmp_path)):
        pass


def test_a_process_that_was_stopped_still_holds_its_lease(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    first = hold()
    assert says(first) == "held"
    first.send_signal(signal.SIGSTOP)
    time.sleep(10 * HEARTBEAT)
    with pytest.raises(InfrastructureError), held(SweepDirectory(tmp_path), heartbeat=HEARTBEAT):
        pass


@pytest.mark.parametrize("reaped", [True, False])
def test_the_lease_of_a_killed_process_is_taken_over_at_once(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]], reaped: bool
) -> None:
    first = hold()
    assert says(first) == "held"
    first.kill()
    if reaped:
        first.wait()
    else:
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    waits: list[str] = []
    with held(SweepDirectory(tmp_path), on_wait=waits.append) as lease:
        assert lease.is_ours()
    assert not waits
    assert not list(tmp_path.iterdir())


def test_a_process_number_that_was_given_to_another_process_does_not_count(tmp_path: Path) -> None:
    here = Holder.here()
    here.model_copy(update={"started": (here.started or 0) - 1}).write(SweepDirectory(tmp_path).lease)
    with held(SweepDirectory(tmp_path)) as lease:
        assert lease.is_ours()


def test_on_another_machine_the_heart_beat_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    elsewhere = Holder.here().model_copy(update={"place": "another machine", "host": "elsewhere"})
    elsewhere.write(sweep.lease)
    waits: list[str] = []
    with held(sweep, heartbeat=HEARTBEAT, on_wait=waits.append) as lease:
        assert lease.is_ours()
    assert "on elsewhere" in waits[0]

    beating = subprocess.Popen(
        [sys.executable, "-c", _BEAT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert says(beating) == "beating"
        with pytest.raises(InfrastructureError, match="on elsewhere"), held(sweep, heartbeat=HEARTBEAT):
            pass
    finally:
        beating.kill()
        beating.communicate()


_BEAT = f"""
import sys, time
from pathlib import Path
from workflows.lease import Holder, Lease

holder = Holder.here().model_copy(update={{"place": "another machine", "host": "elsewhere"}})
lease = Lease(Path(sys.argv[1]) / "lease.json", holder)
holder.write(lease.path)
print("beating", flush=True)
while True:
    time.sleep({HEARTBEAT})
    lease.renew()
"""


@pytest.mark.parametrize("content", [b"", b'{"token": "cut o'])
def test_a_damaged_lease_holds_nobody_up_for_long(tmp_path: Path, content: bytes) -> None:
    sweep = SweepDirectory(tmp_path)
    sweep.lease.write_bytes(content)
    with held(sweep, heartbeat=HEARTBEAT) as lease:
        assert lease.is_ours()


def test_whoever_finds_another_in_its_lease_stops_and_leaves_it_alone(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    first = hold()
    assert says(first) == "held"
    other = Holder.here()
    other.write(SweepDirectory(tmp_path).lease)
    assert says(first) == "lost"
    first.wait(30)
    assert Holder.read(SweepDirectory(tmp_path).lease) == other


def test_a_lease_that_somebody_deleted_is_written_again(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    first = hold()
    assert says(first) == "held"
    SweepDirectory(tmp_path).lease.unlink()
    time.sleep(5 * HEARTBEAT)
    with pytest.raises(InfrastructureError, match=f"process {first.pid} on "), held(SweepDirectory(tmp_path)):
        pass


def test_of_many_that_start_at_once_one_holds_the_lease(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    Holder.here().model_copy(update={"started": 1}).write(SweepDirectory(tmp_path).lease)
    answers = [says(process) for process in [hold() for _ in range(6)]]
    assert sorted(answers) == ["held", *["refused"] * 5]


def test_the_lease_goes_with_its_process(tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]) -> None:
    first = hold()
    assert says(first) == "held"
    first.terminate()
    assert says(first) == "interrupted"
    first.wait(30)
    assert not SweepDirectory(tmp_path).lease.exists()


def test_whether_another_process_has_it_is_known_before_the_next_heart_beat(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    with held(sweep, heartbeat=60) as lease:
        assert not lease.is_anothers()
        sweep.lease.unlink()
        assert not lease.is_anothers()
        Holder.here().write(sweep.lease)
        assert lease.is_anothers() and not lease.is_lost
