"""What a sweep takes beside its trials: before the first of them, and after the last.

What `fleetune plan` goes through itself is measured there: reading the data, starting Ray and fitting the baselines,
starting workers. What comes after the trials is not, nor is Tune: those are the constants below, rounded from sweeps of
the demo on two quiet cores of an Intel Xeon with AMX (`took.json` of every sweep has its own figures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.timing import Timing
from workflows import inference
from workflows.forecast import Work, makespan, schedule
from workflows.kinds import Group, Kind

READING, STARTING, TRIALS, INFERENCE, REPORT, MLFLOW = (
    "reading the data",
    "starting Ray",
    "trials",
    "measuring inference",
    "checking and report",
    "MLflow",
)
# Tune is imported and set up before it hands out the first group, and taken down after the last.
_TUNE = 5.0
# Between the end of a group and the begin of the next one on its slot.
_HANDOVER = 0.1
# A graph that is loaded, besides its calls; a baseline's with them.
_GRAPH, _BASELINE_GRAPH = 0.5, 0.5
# The champion exported and scored again beside a report of a few trials; each further trial adds to the report.
_REPORT, _REPORT_PER_TRIAL = 6.0, 0.1
# What is left for MLflow once the report is written.
_DELIVERY, _DELIVERY_PER_TRIAL = 1.0, 0.1


def of_trials(works: Sequence[Work], slots: int, startup: float) -> float:
    """From the first to the last moment of dispatch."""
    handed = [Work(work.seconds + _HANDOVER, work.prefix, work.prefix_seconds) for work in works]
    return _TUNE + makespan(schedule(handed, slots, startup))


def of_inference(
    groups: Sequence[Group], timings: Mapping[Kind, Timing], baselines: int, test_texts: int, startup: float
) -> float:
    """Measuring every graph, one after the other; `startup` where the process that does it is not there yet."""
    texts = inference.texts_of(test_texts)
    graphs: dict[tuple[object, ...], Timing] = {}
    for group in groups:
        kind = Kind.of(group)
        measured = next((t for k, t in timings.items() if k.graph == kind.graph and t.one_text is not None), None)
        if measured:
            graphs[kind.graph] = measured
            if kind.lora_r is not None:
                graphs[(*kind.graph, kind.lora_r)] = measured
    total = startup + baselines * _BASELINE_GRAPH
    for timing in graphs.values():
        total += _GRAPH + inference.expected_seconds(timing.one_text or 0.0, timing.texts or 0.0, texts)
    return total


def of_report(trials: int) -> float:
    """The champion checked and exported, the report written."""
    return _REPORT + trials * _REPORT_PER_TRIAL


def of_mlflow(trials: int) -> float:
    """What MLflow has not got by then."""
    return _DELIVERY + trials * _DELIVERY_PER_TRIAL
