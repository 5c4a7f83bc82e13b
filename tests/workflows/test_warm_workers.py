"""Processes of a real Ray that are warm when they are needed."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from trainables.errors import InfrastructureError
from trainables.precision import WORTHWHILE, Hardware
from workflows import cluster as module
from workflows.cluster import (
    Cluster,
    Request,
    Slots,
    choose_precision,
    connect,
    run_on_worker,
    wait_until_warm,
    warm_up,
)

pytestmark = pytest.mark.slow
ONE = Request(cpus=1, gpus=0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connect() as cluster:
        yield cluster


def process() -> int:
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        die()
    return os.getpid()


def fail() -> None:
    raise ValueError("bad input")


def hang() -> None:
    time.sleep(300)


class Trial:
    def process(self) -> int:
        return os.getpid()


def modules() -> set[str]:
    return set(sys.modules)


def test_one_process_takes_call_after_call_and_another_one_what_comes_after_its_death(cluster: Cluster) -> None:
    first = run_on_worker(process, ONE)
    assert first != os.getpid()
    assert run_on_worker(process, ONE) == first
    with pytest.raises(InfrastructureError, match="a worker was lost while it ran die"):
        run_on_worker(die, ONE)
    assert run_on_worker(process, ONE) not in (first, os.getpid())


def test_a_call_that_gets_no_answer_ends_in_words_and_leaves_the_worker_free(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CALL_SECONDS", 15)
    every = Request(cpus=int(cluster.nodes[0].cpus), gpus=0)
    with pytest.raises(InfrastructureError, match="hang got no answer from a worker in 15 s"):
        run_on_worker(hang, every)
    assert run_on_worker(process, every) != os.getpid()


def test_precision_is_probed_on_the_cpu_of_a_worker_with_as_many_threads(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    seen: list[tuple[int, int]] = []

    def probe() -> Hardware:
        seen.append((os.getpid(), torch.get_num_threads()))
        return Hardware("cpu", bf16_supported=True, bf16_gain=WORTHWHILE)

    monkeypatch.setattr(module, "probe", probe)
    before = torch.get_num_threads()
    assert choose_precision(None, cluster, Request(cpus=before + 1, gpus=0), Console()) == "bf16"
    assert seen == [(os.getpid(), before + 1)]
    assert torch.get_num_threads() == before


def test_elsewhere_precision_is_probed_on_a_worker(cluster: Cluster) -> None:
    elsewhere = dataclasses.replace(cluster, is_own=False)
    console = Console()
    assert choose_precision(None, elsewhere, ONE, console) == choose_precision(None, cluster, ONE, console)


@pytest.mark.quick
def test_the_process_that_was_warmed_up_beside_trials_takes_the_calls_that_come_after_them(cluster: Cluster) -> None:
    import ray

    trials = [ray.remote(num_cpus=1)(Trial).remote() for _ in range(int(cluster.nodes[0].cpus))]
    busy = ray.get([trial.process.remote() for trial in trials])
    warm_up(ONE)
    (warm,) = {run_on_worker(process, ONE), run_on_worker(process, ONE)}
    assert warm not in busy
    for trial in trials:
        ray.kill(trial)
    assert {"trainables.trial", "transformers.modeling_utils", "sklearn.linear_model"} <= run_on_worker(modules, ONE)
    with pytest.raises(ValueError, match="bad input"):
        run_on_worker(fail, ONE)
    assert run_on_worker(process, ONE) == warm


def test_where_the_warm_process_dies_a_cold_one_makes_up_for_it(cluster: Cluster, tmp_path: Path) -> None:
    warm_up(ONE)
    warm = run_on_worker(process, ONE)
    assert run_on_worker(die_once, ONE, tmp_path / "died") != warm
    assert run_on_worker(process, ONE) not in (warm, os.getpid())


def test_a_process_that_was_waited_for_has_imported_all_and_takes_the_next_call(cluster: Cluster) -> None:
    wait_until_warm(ONE)
    before = run_on_worker(modules, ONE)
    assert {"trainables.trial", "transformers.modeling_utils", "sklearn.linear_model"} <= before
    warm_up(ONE)
    wait_until_warm(ONE)
    assert "transformers.modeling_utils" in run_on_worker(modules, ONE)


@pytest.mark.parametrize("elsewhere", ["with a GPU", "on a cluster"])
def test_none_is_warmed_up_where_it_would_have_to_take_resources(
    elsewhere: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    if elsewhere == "on a cluster":
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    warm_up(Request(cpus=1, gpus=float(elsewhere == "with a GPU")))
    assert ray.util.list_named_actors() == []


def die_or_give(number: int) -> int:
    if number == 1:
        die()
    if number == 2:
        fail()
    return number


def test_slots_take_call_after_call_and_one_that_dies_is_replaced(cluster: Cluster) -> None:
    with Slots(ONE, 2) as slots:
        seconds = slots.everywhere(process)
        assert len(seconds) == 2 and min(seconds) > 0
        first = {found for _, found in slots.run(process, [()] * 6)}
        assert len(first) == 2 and os.getpid() not in first
        found = dict(slots.run(die_or_give, [(number,) for number in range(5)]))
        assert {number for number, value in found.items() if value == number} == {0, 3, 4}
        assert isinstance(found[1], InfrastructureError)
        assert isinstance(found[2], ValueError) and str(found[2]) == "bad input"
        after = {found for _, found in slots.run(process, [()] * 6)}
        assert len(after) == 2 and len(after & first) == 1


def test_slots_give_no_answer_for_ever(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CALL_SECONDS", 5)
    with Slots(ONE, 1) as slots, pytest.raises(InfrastructureError, match="hang got no answer from a worker in 5 s"):
        slots.everywhere(process)
        list(slots.run(hang, [()]))


def test_a_call_that_nobody_waits_for_ends_soon_from_another_thread_too(cluster: Cluster) -> None:
    given_up = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(run_on_worker, hang, ONE, given_up=given_up.is_set)
        assert not call.done()
        given_up.set()
        with pytest.raises(InfrastructureError, match="nobody waits"):
            call.result(timeout=30)
