"""LoRA, by rank, against training everything and training the head alone."""

from __future__ import annotations

from workflows import figures
from workflows.figures import Spot
from workflows.headline import signed, times
from workflows.report import numbers
from workflows.report.content import Content, Run
from workflows.report.costs import COSTS, cost_cells, train_seconds
from workflows.report.page import Block, Column, Data, Figures, Plot, Row, Section, Table

_COMPARED = ("full", "head", "lora")


def lora(content: Content) -> Section | None:
    """LoRA, by rank, against training everything and training the head alone. Only where LoRA trials are done."""
    if not any(run.policy == "lora" for run in content.done):
        return None
    compared = [run for run in content.done if run.policy in _COMPARED]
    best = [
        run
        for policy in _COMPARED
        for run in sorted(content.best_of_each(compared, "model", "freeze", *_rank_axis(content)), key=_rank)
        if run.policy == policy
    ]
    columns = [
        Column("model", numeric=False),
        Column("policy", numeric=False),
        Column("learning\nrate"),
        *map(Column, COSTS),
    ]
    columns += [Column("checkpoint"), Column("time per text,\nmerged"), Column("unmerged")]
    rows = [
        Row(
            [
                str(run.row["model"]),
                _policy_name(run),
                numbers.general(run.row["learning_rate"]),
                *cost_cells(run),
                *_shipped(content, run),
            ]
        )
        for run in best
    ]
    table = Table("LoRA against full fine-tuning and the head alone", columns, rows)
    counted = [run for run in best if run.row.get("trainable_parameters")]
    blocks: list[Block] = [Figures([_plot(content, counted)])] if counted else []
    return Section("lora", "LoRA", _lead(best), [*blocks, table])


def _rank_axis(content: Content) -> tuple[str, ...]:
    return ("lora_r",) if any("lora_r" in row for row in content.rows) else ()


def _rank(run: Run) -> int:
    return run.spec.training.lora_r if run.spec else 0


def _policy_name(run: Run) -> str:
    return f"lora, rank {_rank(run)}" if run.policy == "lora" else run.policy


def _shipped(content: Content, run: Run) -> list[str]:
    merged, apart = content.cost(run), content.cost(run, merged=False)
    return [
        numbers.size(run.row.get("checkpoint_bytes")),
        numbers.milliseconds(merged.latency_p50_ms if merged else None),
        numbers.milliseconds(apart.latency_p50_ms if apart else None) if run.policy == "lora" else "",
    ]


def _lead(best: list[Run]) -> str:
    """The best LoRA trial against the best full one of the same model, in words."""
    text = "Adapters of low rank beside frozen weights (Hu et al. 2021), and the head."
    ranked = sorted(best, key=lambda run: run.row["rank"])
    adapter = next(run for run in ranked if run.policy == "lora")
    same = [run for run in ranked if run.policy == "full" and run.row["model"] == adapter.row["model"]]
    if not same or not all(run.row.get("trainable_parameters") for run in (adapter, same[0])):
        return text
    share = adapter.row["trainable_parameters"] / same[0].row["trainable_parameters"]
    gap = adapter.row["test/accuracy"] - same[0].row["test/accuracy"]
    one, other = train_seconds(adapter), train_seconds(same[0])
    ratio = f" in {times(one / other)} the training time" if one and other else ""
    return (
        f"{text} The best LoRA trial trains {numbers.percent(share)} of the parameters of the best full fine-tuning of "
        f"{adapter.row['model']}{ratio}; the difference in test accuracy is {signed(gap)}."
    )


def _note(run: Run) -> str:
    return f"rank {_rank(run)}" if run.policy == "lora" else ""


def _plot(content: Content, best: list[Run]) -> Plot:
    spots = [Spot(run.row["trainable_parameters"], run.row["test/accuracy"], run.policy, _note(run)) for run in best]
    rows = [
        (
            run.run_id,
            content.label(run),
            run.policy,
            _rank(run) if run.policy == "lora" else None,
            run.row["trainable_parameters"],
            run.row["test/accuracy"],
        )
        for run in best
    ]
    described = "; ".join(
        f"{_policy_name(run)} {run.row['test/accuracy']:.4f} with {numbers.count(run.row['trainable_parameters'])}"
        for run in best
    )
    return Plot(
        name="lora",
        title="Test accuracy against trained parameters",
        alt=f"Test accuracy and trained parameters: {described}.",
        figure=figures.scatter(spots, "trained parameters", "test accuracy", write=figures.brief),
        data=Data(("trial_id", "name", "freeze", "rank", "trainable_parameters", "test/accuracy"), rows),
    )
