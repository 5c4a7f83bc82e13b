"""Hugging Face's Trainer and its `hyperparameter_search(backend="ray")`, as their documentation advises.

`python -m workflows.bench.hf_trainer WORK.json OUT.json [tuned]`: `tuned` adds batches of similar length, and
bf16 where this hardware gains by it.
Nothing is saved, and no test split is scored, which Fleetune does both.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from trainables import freeze, models, precision
from trainables.training import pick_device
from workflows.bench.work import Work


def run(work: Work, *, tuned: bool) -> dict[str, Any]:
    """Search the grid; returns seconds and the best validation accuracy of each trial."""
    import ray
    from ray import tune

    began = time.perf_counter()
    first = work.trials[0]
    tokenizer = AutoTokenizer.from_pretrained(first.model.path)

    def model_init(chosen: dict[str, Any] | None) -> Any:
        trial = work.trials[chosen["trial"]] if chosen else first
        with models.quiet():
            model = AutoModelForSequenceClassification.from_pretrained(trial.model.path, num_labels=len(work.labels))
        return freeze.apply(model, trial.freeze, trial.training, work.seed)

    def space(_: Any) -> dict[str, Any]:
        points = [{"trial": index, "rate": trial.training.learning_rate} for index, trial in enumerate(work.trials)]
        return {"point": tune.grid_search(points)}

    class SearchTrainer(Trainer):
        """The rate of a point goes into the arguments; the Trainer itself knows single values only."""

        def _hp_search_setup(self, trial: Any) -> None:
            super()._hp_search_setup(trial)
            if trial:
                self.args.learning_rate = trial["point"]["rate"]

        def call_model_init(self, trial: Any = None) -> Any:
            return super().call_model_init(trial["point"] if trial else None)

    with tempfile.TemporaryDirectory() as scratch:
        trainer = SearchTrainer(
            model_init=model_init,
            args=_arguments(work, scratch, tuned=tuned),
            train_dataset=_tokens(work, tokenizer, "train"),
            eval_dataset=_tokens(work, tokenizer, "validation"),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=_accuracy,
        )
        ray.init(include_dashboard=False, log_to_driver=False)
        best = trainer.hyperparameter_search(
            hp_space=space,
            compute_objective=lambda metrics: metrics["eval_accuracy"],
            n_trials=1,
            direction="maximize",
            backend="ray",
            storage_path=scratch,
            verbose=0,
        )
        frames = best.run_summary.trial_dataframes
        configs = best.run_summary.get_all_configs()
        accuracies = {
            work.trials[configs[name]["point"]["trial"]].name: float(frame["objective"].max())
            for name, frame in frames.items()
        }
        ray.shutdown()
    return {"seconds": time.perf_counter() - began, "accuracies": accuracies, "scaled": False}


def _tokens(work: Work, tokenizer: Any, split: str) -> Dataset:
    texts, labels = work.texts(split)
    max_length = work.trials[0].training.max_length
    return Dataset.from_dict({"text": texts, "label": labels}).map(
        lambda rows: tokenizer(rows["text"], truncation=True, max_length=max_length),
        batched=True,
        remove_columns=["text"],
    )


def _accuracy(scored: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(scored.predictions, axis=-1) == scored.label_ids).mean())}


def _arguments(work: Work, folder: str, *, tuned: bool) -> TrainingArguments:
    """The first trial's arguments; the rate of each trial is set by the search."""
    wanted = work.trials[0].training
    return TrainingArguments(
        output_dir=folder,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        use_cpu=pick_device().type == "cpu",
        num_train_epochs=wanted.num_train_epochs,
        per_device_train_batch_size=wanted.per_device_train_batch_size,
        per_device_eval_batch_size=wanted.per_device_eval_batch_size,
        weight_decay=wanted.weight_decay,
        warmup_steps=wanted.warmup_steps,
        seed=work.seed,
        bf16=tuned and precision.probe().is_bf16_worthwhile,
        train_sampling_strategy="group_by_length" if tuned else "random",
        disable_tqdm=True,
    )


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    given = Work.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    outcome = run(given, tuned="tuned" in sys.argv[3:])
    Path(sys.argv[2]).write_text(json.dumps(outcome), encoding="utf-8")
