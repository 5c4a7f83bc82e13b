"""From measured parts to a forecast: sums that must be exact, and who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.test_plan import config, trials
from trainables.timing import Timing
from workflows import forecast, inference, kinds, phases, probing
from workflows import trials as running
from workflows.config import SweepConfig
from workflows.forecast import Span, Work, schedule
from workflows.groups import groups
from workflows.kinds import Group, Kind
from workflows.plan import PlannedTrial

TIMING = Timing(
    together=1,
    setup=1.0,
    prefix=0.0,
    epoch=10.0,
    longest_step=0.5,
    validation=2.0,
    test=3.0,
    commit=0.5,
    end=0.25,
    one_text=0.02,
    texts=0.3,
    steps=5,
    device="cpu",
    peak_bytes=10**9,
    device_bytes=16 * 10**9,
    texts_at_once=None,
)
BLOCKS = [
    {"model": "m", "freeze": "full", "learning_rate": [1e-5, 2e-5]},
    {"model": "m", "freeze": "top-2", "learning_rate": [1e-5, 2e-5, 3e-5]},
    {"model": "m", "freeze": "head", "learning_rate": [1e-3, 2e-3, 3e-3, 4e-3]},
]


def planned(folder: Path, blocks: Sequence[dict[str, Any]] = BLOCKS, **more: Any) -> list[Group]:
    """The groups of a sweep in their order of dispatch."""
    found: SweepConfig = config(folder, list(blocks), **more)
    every = trials(found)
    by_id = {trial.trial_id: trial for trial in every}
    return running.in_order([[by_id[name] for name in group] for group in groups(every, found.search, None)])


def timings(left: Sequence[Group], **of: dict[str, Any]) -> dict[Kind, Timing]:
    """A timing for each kind, with changes by freeze policy; heads train at once."""
    return {
        kind: TIMING.model_copy(update={"together": kind.together, **of.get(kind.freeze.replace("-", "_"), {})})
        for kind in {Kind.of(group) for group in left}
    }


def flat(left: Sequence[Group]) -> list[PlannedTrial]:
    return [trial for group in left for trial in group]


def test_each_group_goes_onto_the_slot_that_is_free_first() -> None:
    spans = schedule([Work(5), Work(3), Work(3), Work(1), Work(1)], slots=2)
    assert spans == [Span(0, 0, 5), Span(1, 0, 3), Span(1, 3, 6), Span(0, 5, 6), Span(0, 6, 7)]
    assert forecast.makespan(spans) == 7
    assert forecast.makespan([]) == 0


def test_a_worker_starts_once_on_every_slot_that_is_used() -> None:
    spans = schedule([Work(5), Work(3), Work(3)], slots=2, startup=10)
    assert [span.end for span in spans] == [15, 13, 16]
    assert forecast.makespan(schedule([Work(5)], slots=8, startup=10)) == 15


def test_one_computes_a_prefix_and_whoever_comes_meanwhile_waits_for_it() -> None:
    works = [Work(1, "p", 4), Work(1, "p", 4), Work(1, "p", 4), Work(1, "q", 2)]
    assert [span.end for span in schedule(works, slots=2)] == [5, 5, 6, 8]


def test_a_trial_takes_its_setup_its_epochs_and_its_end(tmp_path: Path) -> None:
    (group,) = planned(tmp_path, [{"model": "m"}], training={"num_train_epochs": 3})
    # 1 + 3 × (10 + 2 + 0.5) + 3 + 0.25
    assert forecast.group_seconds(group, TIMING, 100) == 41.75


def test_states_in_the_middle_of_epochs_cost_a_commit_each(tmp_path: Path) -> None:
    (group,) = planned(tmp_path, [{"model": "m"}], training={"num_train_epochs": 3, "save_steps": 40})
    assert forecast.group_seconds(group, TIMING, 100) == 41.75 + 7 * 0.5


def test_heads_share_setup_and_steps_and_are_scored_one_by_one(tmp_path: Path) -> None:
    (group,) = planned(tmp_path, [BLOCKS[2]], training={"num_train_epochs": 3})
    together = TIMING.model_copy(update={"together": 4})
    # 1 + 3 × 10 + 4 × (3 × 2.5 + 3.25)
    assert forecast.group_seconds(group, together, 100) == 74
    assert forecast.group_seconds(group, TIMING, 100) == 4 * 41.75


def test_trials_that_freeze_alike_share_a_prefix(tmp_path: Path) -> None:
    short = {"name": "short", "path": "m", "num_hidden_layers": 4}
    blocks = [*BLOCKS, {"model": short, "freeze": "head", "learning_rate": 1e-3}]
    keys = {(trial.model.name, trial.freeze): kinds.prefix_key(trial) for trial in flat(planned(tmp_path, blocks))}
    assert keys["m", "full"] is None
    # Four layers are frozen either way, but of the short model's fourth a head reads one vector.
    assert len({keys["m", "top-2"], keys["m", "head"], keys["short", "head"]}) == 3


def test_shares_of_trials_add_up_to_all_work_and_to_every_axis(tmp_path: Path) -> None:
    left = planned(tmp_path)
    known = timings(left, top_2={"prefix": 6.0}, head={"prefix": 8.0, "epoch": 0.5})
    works = forecast.works(left, known, train_texts=100)
    spent = forecast.trial_seconds(left, works)
    total = sum(work.seconds for work in works) + 6 + 8
    assert sum(spent.values()) == pytest.approx(total)
    axes = forecast.by_axis(flat(left), spent)
    assert list(axes) == ["freeze", "learning_rate"]
    for values in axes.values():
        assert sum(values.values()) == pytest.approx(total)
    # 3 epochs each: 1 + 3 × 12.5 + 3.25
    assert axes["freeze"]["full"] == pytest.approx(2 * 41.75)
    assert axes["freeze"]["top-2"] == pytest.approx(3 * 41.75 + 6)
    assert axes["learning_rate"]["1e-05"] == pytest.approx(2 * 41.75 + 2)
    rows = forecast.by_kind(left, known, spent)
    assert [row.freeze for row in rows] == ["top-2", "full", "head"]
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert sum(row.trials * row.seconds for row in rows) == pytest.approx(total)


def test_an_axis_that_only_some_trials_have_adds_up_too(tmp_path: Path) -> None:
    left = planned(tmp_path, [BLOCKS[0], {"model": "m", "freeze": "lora", "lora_r": [4, 8]}])
    spent = forecast.trial_seconds(left, forecast.works(left, timings(left), 100))
    axes = forecast.by_axis(flat(left), spent)
    assert set(axes["lora_r"]) == {"4", "8", forecast.ABSENT}
    assert sum(axes["lora_r"].values()) == pytest.approx(sum(spent.values()))


def test_learning_rates_and_seeds_make_no_kind_and_batches_and_ranks_do(tmp_path: Path) -> None:
    def count(*blocks: dict[str, Any], **search: Any) -> int:
        return len(probing.chosen(planned(tmp_path, blocks, search=search)))

    assert count(BLOCKS[0] | {"num_train_epochs": [1, 2], "weight_decay": [0.0, 0.1]}, seeds=[1, 2]) == 1
    assert count(BLOCKS[0] | {"per_device_train_batch_size": [8, 16]}) == 2
    assert count({"model": "m", "freeze": "lora", "lora_r": [4, 8]}) == 2
    assert count({"model": "m", "freeze": "full", "lora_r": [4, 8]}) == 1


def test_where_there_are_many_kinds_those_with_most_work_are_probed_and_stand_for_the_rest(tmp_path: Path) -> None:
    left = planned(tmp_path, [{"model": "m", "freeze": ["full", "head"], "max_length": [32, 64, 128]}])
    probed = probing.chosen(left, most=2)
    assert [(kind.freeze, kind.max_length) for kind in probed] == [("full", 128), ("full", 64)]
    known = dict.fromkeys(probed, TIMING)
    (short,) = [group for group in left if group[0].freeze == "full" and group[0].training.max_length == 32]
    # The nearest is that of 64 tokens, of which it is half.
    found = kinds.timing_of(short, {**known, next(iter(probed)): TIMING.model_copy(update={"epoch": 99.0})})
    assert (found.epoch, found.setup) == (5.0, 1.0)


def test_as_many_probes_run_at_once_as_trials_will(tmp_path: Path) -> None:
    found = {kind: [] for kind in probing.chosen(planned(tmp_path))}
    calls = list(probing._calls(found, 5, tmp_path))
    assert [kind.freeze for kind, _ in calls] == ["full", "top-2", "head", "full", "top-2"]
    assert len({folder for _, (_, folder, _) in calls}) == 5
    assert [predicts for _, (_, _, predicts) in calls] == [True, False, False, False, False]
    assert len(list(probing._calls(found, 2, tmp_path))) == 3


def test_several_probes_of_a_kind_give_their_medians_and_the_most_memory() -> None:
    several = [
        TIMING.model_copy(update={"epoch": epoch, "peak_bytes": peak, "one_text": one})
        for epoch, peak, one in ((9.0, 5, None), (30.0, 7, 0.1), (11.0, 6, None))
    ]
    found = probing._median(several)
    assert (found.epoch, found.peak_bytes, found.one_text) == (11.0, 7, 0.1)


def test_measuring_inference_stops_after_its_time_but_not_before_its_least_calls() -> None:
    # 3 calls to warm up and 128, or as many as 4 seconds hold, or 20; then 3 and 4 batches at least, 1 second or 20.
    assert inference.expected_seconds(0.01, 0.01, 128) == pytest.approx(0.01 * 131 + 0.01 * 23)
    assert inference.expected_seconds(0.1, 0.3, 128) == pytest.approx(0.1 * 43 + 0.3 * 7)
    assert inference.expected_seconds(1.0, 4.0, 128) == pytest.approx(1.0 * 23 + 4.0 * 7)


def test_every_graph_is_measured_once_and_a_lora_trial_has_two(tmp_path: Path) -> None:
    def seconds(*blocks: dict[str, Any]) -> float:
        left = planned(tmp_path, blocks)
        return phases.of_inference(left, timings(left), 0, 128, 0.0)

    assert seconds(*BLOCKS) == pytest.approx(seconds(BLOCKS[0]))
    assert seconds(BLOCKS[0], {"model": "m", "freeze": "lora"}) == pytest.approx(2 * seconds(BLOCKS[0]))
    assert seconds(BLOCKS[0] | {"max_length": [32, 64]}) == pytest.approx(2 * seconds(BLOCKS[0]))
