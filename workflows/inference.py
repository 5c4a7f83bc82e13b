"""What predicting costs: latency and throughput of every distinct inference graph of a sweep, measured alone.

Trials that differ only in what they learned share one graph: the weights change, the operations do not. A LoRA trial
has two: with its adapters merged, which is what is exported and the same graph as its base, and unmerged.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.arguments import TrialSpec
from trainables.directory import SweepDirectory
from trainables.files import read_json, sha256_json
from trainables.records import InferenceCost

if TYPE_CHECKING:
    from workflows.predict import Classifier

BATCH_SIZE = 32
_COLUMNS = ("latency_p50_ms", "latency_p95_ms", "throughput")
_TEXTS = 64
_WARM_UP = 3
# How long to measure at most, so that a large model on a CPU does not hold up the end of a sweep, and at least this
# many calls. From round to round over the same texts, p50 and p95 of a MiniLM on one core differ by as much as when
# they come from half of the texts: by a tenth to a fifth, with what else the machine does. More calls tell no more.
_LATENCY_SECONDS = 4.0
_LEAST_CALLS = 20
# Of batches, every text once at least; those after a second have moved the throughput by three in a hundred.
_THROUGHPUT_SECONDS = 1.0
_MOST_BATCHES = 20


@dataclass(frozen=True)
class Graph:
    """One inference graph, and a folder with weights for it."""

    graph_id: str
    model: str
    source: Path
    merged: bool = True


def trial_graph(spec: TrialSpec, *, merged: bool = True) -> str:
    """The id of a trial's inference graph: what decides its operations and the length of the texts it reads."""
    meaning: dict[str, Any] = {
        "model": spec.model.sha256,
        "num_hidden_layers": spec.model.num_hidden_layers,
        "max_length": spec.training.max_length,
        "adapters": None if merged or spec.freeze != "lora" else spec.training.lora_r,
    }
    return sha256_json(meaning)[:12]


def graphs(sweep: SweepDirectory, trials: Iterable[str], baselines: Iterable[str]) -> list[Graph]:
    """The distinct graphs of finished trials and baselines, in the order of their first appearance."""
    found: dict[str, Graph] = {}
    for trial_id in trials:
        spec = _spec(sweep, trial_id)
        for merged in (True, False) if spec.freeze == "lora" else (True,):
            graph_id = trial_graph(spec, merged=merged)
            graph = Graph(graph_id, spec.model.name, sweep.trial(trial_id).checkpoint, merged)
            found.setdefault(graph_id, graph)
    for name in baselines:
        found[name] = Graph(name, name, sweep.baseline(name).root)
    return list(found.values())


def unmeasured(sweep: SweepDirectory, known: Sequence[Graph]) -> list[Graph]:
    """Those of some graphs that have no cost yet."""
    return [graph for graph in known if not sweep.inference_cost(graph.graph_id).exists()]


def cost_file(sweep: SweepDirectory, name: str, kind: str) -> Path | None:
    """Where the cost of a trial's (merged) graph or of a baseline is, or will be; None for a trial without a spec."""
    if kind == "baseline":
        return sweep.inference_cost(name)
    return sweep.inference_cost(trial_graph(_spec(sweep, name))) if sweep.trial(name).spec.exists() else None


def columns(sweep: SweepDirectory, name: str, kind: str) -> dict[str, float | int | None]:
    """What the leaderboard shows of a finished trial or baseline beside its result.

    The size of what it left (its checkpoint, or a baseline's model) and what predicting costs, where it is measured.
    """
    size = _size(sweep.trial(name).checkpoint if kind == "trial" else sweep.baseline(name).model)
    path = cost_file(sweep, name, kind)
    if path is None or not path.exists():
        return {"checkpoint_bytes": size}
    cost = InferenceCost.read(path)
    return {"checkpoint_bytes": size} | {key: getattr(cost, key) for key in _COLUMNS}


def measure(graph: Graph, data: Path, threads: int) -> InferenceCost:
    """Load a graph and time it on texts of the test split in `data`; for a worker with nothing else to do."""
    import numpy as np
    import torch

    from trainables.training import pick_device
    from workflows.predict import load_classifier

    torch.set_num_threads(threads)
    device = pick_device()
    # A temperature costs nothing.
    classifier = load_classifier(str(graph.source), merge=graph.merged, device=str(device), calibrated=False)
    texts, pairs = _texts(data)
    latencies = [1000 * seconds for seconds, _ in _latencies(classifier, texts, pairs)]
    batches = list(_batches(classifier, texts, pairs))
    return InferenceCost(
        graph_id=graph.graph_id,
        model=graph.model,
        merged=graph.merged,
        device=classifier.device,
        threads=threads,
        texts=len(texts),
        batch_size=BATCH_SIZE,
        latency_p50_ms=float(np.percentile(latencies, 50)),
        latency_p95_ms=float(np.percentile(latencies, 95)),
        throughput=sum(count for _, count in batches) / sum(seconds for seconds, _ in batches),
        parameters=classifier.parameters,
        bytes=classifier.bytes,
        measured=int(time.time() * 1000),
    )


def texts_of(test_texts: int) -> int:
    """How many texts of a test split are predicted."""
    return min(_TEXTS, test_texts)


def expected_seconds(one_text: float, batch: float, texts: int) -> float:
    """What measuring a graph takes, from what one text alone takes, and a batch."""

    def calls(each: float, most: int, least: int, seconds: float) -> float:
        return each * (_WARM_UP + min(most, max(least, math.ceil(seconds / each)))) if each else 0.0

    rounds = math.ceil(texts / BATCH_SIZE)
    alone = calls(one_text, max(texts, _LEAST_CALLS), min(texts, _LEAST_CALLS), _LATENCY_SECONDS)
    return alone + calls(batch, max(rounds, _MOST_BATCHES), rounds, _THROUGHPUT_SECONDS)


def _latencies(classifier: Classifier, texts: list[str], pairs: list[str] | None) -> Iterator[tuple[float, int]]:
    """Each text alone, once, or as many as the time allows."""
    calls = _timed(classifier, texts, pairs, 1)
    yield from _until(
        calls, most=max(len(texts), _LEAST_CALLS), least=min(len(texts), _LEAST_CALLS), seconds=_LATENCY_SECONDS
    )


def _batches(classifier: Classifier, texts: list[str], pairs: list[str] | None) -> Iterator[tuple[float, int]]:
    """All texts in batches, and again while there is time."""
    calls = _timed(classifier, texts, pairs, BATCH_SIZE)
    rounds = math.ceil(len(texts) / BATCH_SIZE)
    yield from _until(calls, most=max(rounds, _MOST_BATCHES), least=rounds, seconds=_THROUGHPUT_SECONDS)


def _timed(
    classifier: Classifier, texts: list[str], pairs: list[str] | None, batch_size: int
) -> Iterator[tuple[float, int]]:
    """Seconds and texts of each batch, after a warm-up, round and round for ever."""
    batches = [slice(start, start + batch_size) for start in range(0, len(texts), batch_size)]

    def run(batch: slice) -> int:
        return len(classifier.logits(texts[batch], None if pairs is None else pairs[batch]))

    for batch in batches[:_WARM_UP]:
        run(batch)
    for batch in itertools.cycle(batches):
        began = time.perf_counter()
        count = run(batch)
        yield time.perf_counter() - began, count


def _until(calls: Iterator[tuple[float, int]], *, most: int, least: int, seconds: float) -> Iterator[tuple[float, int]]:
    """At most so many calls, and once the time is up no more than `least`."""
    spent = 0.0
    for number, (took, count) in enumerate(itertools.islice(calls, most), 1):
        yield took, count
        spent += took
        if spent >= seconds and number >= least:
            return


def _texts(data: Path) -> tuple[list[str], list[str] | None]:
    """Evenly spaced texts of the test split, and their second sentences where there are any."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(data / "test.parquet", columns=["text", "text_pair"])
    chosen = table.take(np.unique(np.linspace(0, len(table) - 1, texts_of(len(table))).astype(int)))
    pairs = None if chosen["text_pair"].null_count else chosen["text_pair"].to_pylist()
    return chosen["text"].to_pylist(), pairs


def _spec(sweep: SweepDirectory, trial_id: str) -> TrialSpec:
    return TrialSpec.model_validate(read_json(sweep.trial(trial_id).spec)["spec"])


def _size(path: Path) -> int | None:
    """Bytes of a file, or of all files in a folder; None where there is neither."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else None
