"""The faults, one function each: it disturbs a sweep, and says what must come of it before the same command ends it.

Numbers are those of the fault suite in the project's notes. A fault begins its sweep itself; what must hold of every
sweep in the end is in `oracle.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.faults.disturbed import Disturbed, gone
from trainables.files import read_json, write_json

_NO_MEMORY = "running low on memory"
# By and by, so that it can be stopped as soon as Ray has seen it.
_TAKE = """
import sys, time
taken = []
while sum(map(len, taken)) < int(sys.argv[1]):
    taken.append(b"x" * 2**27)
    time.sleep(0.05)
time.sleep(60)
"""

Disturb = Callable[[Disturbed], None]


@dataclass(frozen=True)
class Fault:
    """A fault; `expected` is what the table of results says of it."""

    number: str
    name: str
    expected: str
    disturb: Disturb


def _to_a_worker(end: Callable[[psutil.Process], None]) -> Disturb:
    def disturb(sweep: Disturbed) -> None:
        sweep.start()
        sweep.some_way()
        end(sweep.a_worker())
        sweep.ends_well()

    return disturb


def driver_killed(sweep: Disturbed) -> None:
    driver = sweep.start()
    sweep.some_way()
    _ends_all_the_same(sweep, driver.kill)


def _asked_to_stop(number: signal.Signals) -> Disturb:
    def disturb(sweep: Disturbed) -> None:
        driver = sweep.start()
        sweep.some_way()
        family = sweep.family()
        driver.send_signal(number)
        code, output = sweep.wait()
        assert code == 130, output
        assert f"--set name={sweep.name}" in output
        assert gone(family)
        sweep.finish()

    return disturb


def asked_to_stop_twice(sweep: Disturbed) -> None:
    driver = sweep.start()
    sweep.some_way()

    def interrupt_twice() -> None:
        driver.send_signal(signal.SIGINT)
        time.sleep(sweep.moments.uniform(0, 0.5))
        driver.send_signal(signal.SIGINT)

    _ends_all_the_same(sweep, interrupt_twice)


def _ends_all_the_same(sweep: Disturbed, end: Callable[[], None]) -> None:
    """No worker outlives a driver that ends without order; Ray's own agents need a minute to find that out."""
    workers, family = sweep.workers(), sweep.family()
    end()
    sweep.wait()
    assert gone(workers)
    sweep.finish()
    assert gone(family, seconds=180)


def newest_state_damaged(sweep: Disturbed) -> None:
    driver = sweep.start()
    sweep.until(lambda: list(sweep.sweep.trials.glob("*/state/epoch-*/COMMIT")))
    sweep.some_way()
    driver.kill()
    sweep.wait()
    for state in sorted(sweep.sweep.trials.glob("*/state/epoch-*/tensors.safetensors"))[-1:]:
        _flip_a_bit(state, sweep)
    sweep.finish()


def _flip_a_bit(path: Path, sweep: Disturbed) -> None:
    content = bytearray(path.read_bytes())
    content[int(sweep.moments.integers(len(content)))] ^= 1 << int(sweep.moments.integers(8))
    path.write_bytes(content)


def manifest_cut_off(sweep: Disturbed) -> None:
    sweep.cut_off()
    manifest = sweep.sweep.manifest
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[: int(sweep.moments.integers(len(whole)))])
    code, output = sweep.run()
    assert code == 4, output
    assert str(manifest) in output.replace("\n", "")
    assert "Traceback" not in output
    manifest.write_bytes(whole)
    sweep.finish()


def memory_runs_out(sweep: Disturbed) -> None:
    """Ray's limit leaves a sweep what it needs; whoever comes beside it takes more than others may give back then.

    It strikes trials, or where the last of them ends before the memory is full, whoever measures or exports then.
    """
    memory, spare = psutil.virtual_memory(), 4 * 2**30
    if memory.available < 3 * spare:
        pytest.skip("needs 12 GB of free memory")
    limit = (memory.total - memory.available + spare) / memory.total
    driver = sweep.start(RAY_memory_usage_threshold=f"{limit:.4f}", RAY_memory_monitor_refresh_ms="50")
    sweep.some_way()
    hungry = subprocess.Popen([sys.executable, "-c", _TAKE, str(int(2.5 * spare))])
    log = sweep.sweep.driver_log

    def is_struck() -> bool:
        return log.exists() and _NO_MEMORY in log.read_text(errors="replace")

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and driver.poll() is None and not is_struck():
        time.sleep(0.05)
    hungry.kill()
    hungry.wait()
    code, output = sweep.wait()
    assert is_struck(), output
    # Whoever exports the champion may be struck too, again and again.
    assert code in (0, 3) or (code == 4 and "the same command continues" in output), output
    sweep.finish()


def started_twice(sweep: Disturbed) -> None:
    first = sweep.start()
    sweep.some_way()
    second = sweep.workplace.fleetune(*sweep.command())
    assert second.returncode == 4
    assert f"process {first.pid} on" in second.stderr.replace("\n", " ")
    sweep.ends_well()


def clock_jumped_back(sweep: Disturbed) -> None:
    """What was recorded lies an hour ahead of the clock that goes on."""
    sweep.cut_off()
    hour = 3_600_000
    for path in sweep.sweep.trials.glob("*/epoch-*.json"):
        record = read_json(path)
        steps = record["steps"] | {"timestamp": [moment + hour for moment in record["steps"]["timestamp"]]}
        write_json(path, record | {"timestamp": record["timestamp"] + hour, "steps": steps})
    sweep.finish()


def _old_worker_comes_back(*, late: bool) -> Disturb:
    """A worker that is frozen, outlives its driver, and goes on while another has its trial, or `late`: afterwards."""

    def disturb(sweep: Disturbed) -> None:
        driver = sweep.start()
        sweep.some_way()
        worker = sweep.a_worker()
        worker.suspend()
        driver.kill()
        sweep.wait()
        sweep.start()
        if late:
            sweep.ends_well()
        else:
            time.sleep(sweep.moments.uniform(0, 12))
        if worker.is_running():
            worker.resume()
        if not late:
            sweep.ends_well()
        assert gone([worker])

    return disturb


def frozen_worker(sweep: Disturbed) -> None:
    """Nothing in a frozen process can tell that it hangs; the driver hears nothing of it and ends it."""
    sweep.overrides.append("resources.trial_timeout=30s")
    sweep.start()
    sweep.some_way()
    worker = sweep.a_worker()
    worker.suspend()
    sweep.ends_well()
    assert gone([worker])


def node_lost(sweep: Disturbed) -> None:
    nodes = sweep.cluster()
    nodes.join("127.0.0.2")
    lost = nodes.join("127.0.0.3")
    sweep.start()
    sweep.some_way()
    for process in nodes.processes(lost):
        if process.name() == "raylet":
            process.kill()
    sweep.ends_well()


def nodes_lost(sweep: Disturbed) -> None:
    """The only node that can run a trial is lost, the head stays; another comes when the driver has given up."""
    nodes = sweep.cluster()
    lost = nodes.join("127.0.0.2")
    sweep.start("resources.trial_timeout=40s")
    sweep.some_way()
    for process in nodes.processes(lost):
        process.kill()
    nodes.running.remove(lost)
    code, output = sweep.wait()
    assert code == 4, output
    assert "no node was there that has 1 CPU" in output.replace("\n", " ")
    nodes.join("127.0.0.3")
    sweep.finish()


def cluster_lost(sweep: Disturbed) -> None:
    """The head goes with all its nodes and with the driver, a job on it; there is another cluster then."""
    nodes = sweep.cluster()
    nodes.join("127.0.0.2")
    driver = sweep.start()
    sweep.some_way()
    nodes.kill()
    driver.kill()
    sweep.wait()
    sweep.cluster().join("127.0.0.2")
    sweep.finish()


def report_cannot_be_written(sweep: Disturbed) -> None:
    sweep.sweep.report.mkdir(parents=True)
    code, output = sweep.run()
    assert code == 4, output
    assert "Traceback" not in output
    assert len(list(sweep.sweep.trials.glob("*/result.json"))) == sweep.trials
    sweep.sweep.report.rmdir()
    again = sweep.workplace.fleetune("report", str(sweep.sweep.root))
    assert again.returncode == 0, again.stderr
    sweep.finish()


def another_schema(sweep: Disturbed) -> None:
    sweep.cut_off()
    manifest = read_json(sweep.sweep.manifest)
    write_json(sweep.sweep.manifest, manifest | {"schema": manifest["schema"] - 1})
    code, output = sweep.run()
    assert code == 2, output
    assert "another version of Fleetune" in output.replace("\n", " ")
    write_json(sweep.sweep.manifest, manifest)
    sweep.finish()


def other_data(sweep: Disturbed) -> None:
    sweep.cut_off()
    code, output = sweep.run("data.path=other.csv")
    assert code == 2, output
    assert "fingerprint" in output
    sweep.finish()


def disk_full(sweep: Disturbed) -> None:
    sweep.stack.enter_context(_small_disk(sweep.storage, "64m"))
    sweep.start()
    sweep.some_way()
    filler = sweep.storage / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    code, output = sweep.wait()
    assert code in (3, 4), output
    assert "Traceback" not in output
    assert "No space left" in output
    filler.unlink()
    sweep.finish()


def artifacts_full(sweep: Disturbed) -> None:
    artifacts = sweep.storage / "mlartifacts"
    sweep.stack.enter_context(_small_disk(artifacts, "64k"))
    code, output = sweep.run()
    assert code == 4, output
    assert "No space left" in output
    assert len(list(sweep.sweep.trials.glob("*/result.json"))) == sweep.trials
    subprocess.run(["mount", "-o", "remount,size=64m", artifacts], check=True)
    _deliver(sweep)


@contextlib.contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own, of so many bytes, at a folder; needs the right to mount."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _deliver(sweep: Disturbed) -> None:
    delivered = sweep.workplace.fleetune("sync", str(sweep.sweep.root))
    assert delivered.returncode == 0, delivered.stdout + delivered.stderr


def server_away_for_a_while(sweep: Disturbed) -> None:
    proxy = sweep.proxy()
    proxy.come()
    sweep.start()
    sweep.some_way()
    proxy.go()
    time.sleep(sweep.moments.uniform(0, 10))
    proxy.come()
    sweep.ends_well()


def server_away_all_the_time(sweep: Disturbed) -> None:
    proxy = sweep.proxy()
    code, output = sweep.run()
    assert code == 4, output
    assert f"sync {sweep.sweep.root.relative_to(sweep.workplace.folder)} delivers the rest" in output
    assert len(list(sweep.sweep.trials.glob("*/result.json"))) == sweep.trials
    proxy.come()
    _deliver(sweep)


def _server_answers(*faults: str) -> Disturb:
    def disturb(sweep: Disturbed) -> None:
        proxy = sweep.proxy()
        proxy.faults, proxy.chance = faults, 0.3
        proxy.come()
        code, output = sweep.run()
        assert code in (0, 4), output
        assert proxy.met
        proxy.chance = 0.0
        if code:
            _deliver(sweep)

    return disturb


def two_sweeps_make_one_store(sweep: Disturbed) -> None:
    names = ("--set", f"name={sweep.name}-beside", "--set", f"tracking.register_as={sweep.name}-beside")
    sweep.start()
    beside = sweep.workplace.start(*sweep.command(), *names)
    code, output = sweep.wait()
    others, _ = beside.communicate(timeout=240)
    assert code == 0, output
    assert beside.returncode == 0, others


FAULTS = (
    Fault("F01", "a trial's process is killed", "tried again from its last epoch", _to_a_worker(psutil.Process.kill)),
    Fault("F02", "the driver is killed", "the same command finishes", driver_killed),
    Fault("F03a", "Ctrl-C", "exit 130, runs KILLED, the same command finishes", _asked_to_stop(signal.SIGINT)),
    Fault("F03b", "SIGTERM, as `ray job stop` sends", "the same", _asked_to_stop(signal.SIGTERM)),
    Fault("F03c", "Ctrl-C twice", "ends at once, the same command finishes", asked_to_stop_twice),
    Fault("F04a", "a node is lost", "its trials go on elsewhere", node_lost),
    Fault("F04b", "every node but the head is lost", "exit 4; the same command finishes later", nodes_lost),
    Fault("F05", "the cluster is lost with its head", "the same command finishes on another", cluster_lost),
    Fault(
        "F06",
        "a trial's process gets SIGTERM",
        "tried again from its last epoch",
        _to_a_worker(psutil.Process.terminate),
    ),
    Fault("F07a", "MLflow's server goes and comes back", "training goes on, all is delivered", server_away_for_a_while),
    Fault("F07b", "MLflow's server is away to the end", "exit 4; sync delivers", server_away_all_the_time),
    Fault(
        "F08",
        "the server is slow, answers 500, 429, half",
        "all is delivered",
        _server_answers("500", "429", "slow", "cut"),
    ),
    Fault("F09", "the server acts, and its answer is lost", "nothing is doubled", _server_answers("drop")),
    Fault("F10", "no space left for artifacts", "exit 4; trials DONE; sync delivers", artifacts_full),
    Fault("F11", "no space left in the storage", "exit 3 or 4 in words; the same command finishes", disk_full),
    Fault("F12", "a bit of the newest state is flipped", "the epoch before it counts", newest_state_damaged),
    Fault("F13", "the manifest is cut off", "exit 4, the file is named", manifest_cut_off),
    Fault(
        "F15",
        "Ray ends workers for want of memory",
        "bounded; others go on; the same command finishes",
        memory_runs_out,
    ),
    Fault("F17", "a trial's process is frozen", "ended by the driver, tried again", frozen_worker),
    Fault("F19", "two sweeps make one new store at once", "both are in it", two_sweeps_make_one_store),
    Fault("F21", "the same sweep is started twice", "the second is refused, exit 4", started_twice),
    Fault("F22", "the clock jumps back an hour", "nothing is lost or doubled", clock_jumped_back),
    Fault(
        "F26a",
        "a frozen worker outlives its driver and goes on beside the next one",
        "two never spoil one trial",
        _old_worker_comes_back(late=False),
    ),
    Fault(
        "F26b",
        "a frozen worker outlives its driver and goes on after the end",
        "nothing changes",
        _old_worker_comes_back(late=True),
    ),
    Fault(
        "F27", "the report cannot be written", "exit 4, trials kept; report writes it later", report_cannot_be_written
    ),
    Fault("F29", "the sweep is of another schema", "exit 2, nothing changed", another_schema),
    Fault("F30", "the data are others now", "exit 2 with a diff, nothing changed", other_data),
)

# The rest of the list, by number, name, and where it is tested or why it is not.
ELSEWHERE = (
    (
        "F14",
        "no memory left on a GPU",
        "trainables/test_on_gpu.py, where there is one; memory that says no: trainables/test_room.py",
    ),
    ("F16", "a loss that is not finite", "trainables/test_training.py, test_midway.py, test_trial.py"),
    ("F18", "a DataLoader's worker is killed", "there are none: batches are cut from token arrays in memory maps"),
    ("F20", "GPUs that are not there", "jobs/test_sweep.py, jobs/test_preflight.py, workflows/test_cluster.py"),
    ("F23", "the Hub is away", "workflows/data/test_sources.py, workflows/test_resolve.py"),
    ("F24", "a worker with other versions", "workflows/test_preflight.py, jobs/test_preflight.py"),
    ("F25", "a storage that is read-only or not shared", "workflows/test_preflight.py, jobs/test_preflight.py"),
    ("F28", "hundreds of trials in one process", "measured by `make curves`: trials 20, 200, 1,000"),
)
