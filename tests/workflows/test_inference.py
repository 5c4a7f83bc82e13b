"""What predicting costs: which trials share a graph, and what is measured of one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables.arguments import TrialSpec
from trainables.checkpoint import load
from trainables.directory import SweepDirectory
from trainables.files import write_json
from trainables.trial import run_trial
from workflows import inference
from workflows.baselines import run_baseline
from workflows.inference import graphs, measure, trial_graph, unmeasured


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """Trials that end in a second each, and a baseline."""
    root = tmp_path_factory.mktemp("inference")
    model = tiny_model("bert", root / "bert")
    for freeze in ("full", "head", "lora"):
        write_spec(trial_spec(model, root / "sweep", freeze=freeze, num_train_epochs=1))
    spec = trial_spec(model, root / "sweep", freeze="head", seed=2, num_train_epochs=1, max_length=8)
    write_spec(spec)
    sweep = SweepDirectory(root / "sweep")
    run_baseline("tfidf", Path(spec.data), spec.labels, "accuracy", sweep.baseline("tfidf"))
    return sweep


def write_spec(spec: TrialSpec) -> None:
    run_trial(spec)
    write_json(Path(spec.directory) / "trial.json", {"spec": spec.model_dump(mode="json"), "name": "x", "axes": {}})


TRIALS = ("trial-full-1", "trial-head-1", "trial-lora-1", "trial-head-2")


def test_trials_that_differ_in_weights_only_share_a_graph_and_lora_has_one_more(sweep: SweepDirectory) -> None:
    found = graphs(sweep, TRIALS, ["tfidf"])
    assert [(graph.model, graph.merged) for graph in found] == [
        ("tiny", True),
        ("tiny", False),
        ("tiny", True),  # max_length 8: shorter texts
        ("tfidf", True),
    ]
    assert len({graph.graph_id for graph in found}) == 4


def test_layers_lengths_and_ranks_make_other_graphs_and_seeds_and_rates_do_not(tmp_path: Path) -> None:
    spec = trial_spec(tiny_model("bert", tmp_path / "bert"), tmp_path, freeze="lora")

    def other(**changes: object) -> TrialSpec:
        return spec.model_copy(update={"training": spec.training.model_copy(update=changes)})

    cut = spec.model_copy(update={"model": spec.model.model_copy(update={"num_hidden_layers": 2})})
    assert trial_graph(spec) == trial_graph(other(learning_rate=1e-4)) == trial_graph(other(lora_r=2))
    assert trial_graph(spec) == trial_graph(spec.model_copy(update={"seed": 9, "freeze": "full"}))
    assert len({trial_graph(item) for item in (spec, cut, other(max_length=8))}) == 3
    assert len({trial_graph(item, merged=False) for item in (spec, other(lora_r=2))}) == 2


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a moment only."""
    monkeypatch.setattr(inference, "_LATENCY_SECONDS", 0.2)
    monkeypatch.setattr(inference, "_THROUGHPUT_SECONDS", 0.2)


@pytest.mark.usefixtures("hasty")
def test_a_measured_graph_says_what_it_is_and_reaches_the_rows_of_its_trials(sweep: SweepDirectory) -> None:
    data = sweep.root / "data"
    for graph in graphs(sweep, TRIALS, ["tfidf"]):
        cost = measure(graph, data, threads=1)
        assert 0 < cost.latency_p50_ms <= cost.latency_p95_ms
        assert cost.throughput > 0
        assert (cost.graph_id, cost.merged, cost.texts, cost.device) == (graph.graph_id, graph.merged, 24, "cpu")
        cost.write(sweep.inference_cost(graph.graph_id))
        if graph.model == "tiny":
            model = load(graph.source, merge=graph.merged).model
            used = [p for name, p in model.named_parameters() if ".original_module." not in name]
            assert cost.parameters == sum(p.numel() for p in used)
    assert unmeasured(sweep, graphs(sweep, TRIALS, ["tfidf"])) == []
    full, head, lora, short = (inference.columns(sweep, name, "trial") for name in TRIALS)
    sizes = [columns.pop("checkpoint_bytes") for columns in (full, head, lora, short)]
    assert full == head == lora != short
    assert sizes[0] > sizes[2] > sizes[1], "a whole model, adapters and a head, a head alone"
    tfidf = inference.columns(sweep, "tfidf", "baseline")
    assert set(tfidf) == {"checkpoint_bytes", "latency_p50_ms", "latency_p95_ms", "throughput"}
    assert tfidf["checkpoint_bytes"] == sweep.baseline("tfidf").model.stat().st_size


def test_what_was_not_measured_is_left_out_or_unknown(sweep: SweepDirectory) -> None:
    nothing = SweepDirectory(sweep.root / "nothing")
    assert inference.columns(nothing, "majority", "baseline") == {"checkpoint_bytes": None}


@pytest.mark.usefixtures("hasty")
def test_sentence_pairs_are_measured_as_pairs(sweep: SweepDirectory, tmp_path: Path) -> None:
    import pandas as pd

    pd.read_parquet(sweep.root / "data" / "test.parquet").assign(text_pair="and one more").to_parquet(
        tmp_path / "test.parquet"
    )
    (graph, *_) = graphs(sweep, TRIALS[:1], [])
    assert measure(graph, tmp_path, threads=1).texts == 24
    assert inference._texts(tmp_path)[1] == ["and one more"] * 24


@pytest.mark.parametrize(
    ("seconds", "most", "least", "calls"),
    [
        (0.01, 128, 20, 128),  # a small model: every text once
        (0.5, 128, 20, 20),  # a large one, for which there is no time
        (0.1, 128, 20, 40),
        (5.0, 20, 4, 4),  # batches of a large one: every text all the same
        (0.25, 20, 4, 16),
    ],
)
def test_what_is_slow_is_called_less_often_but_often_enough(seconds: float, most: int, least: int, calls: int) -> None:
    endless = itertools.repeat((seconds, 1))
    assert len(list(inference._until(endless, most=most, least=least, seconds=4.0))) == calls
