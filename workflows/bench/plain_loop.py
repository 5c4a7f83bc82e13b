"""The loop of the tutorials: every text padded to max_length, fp32, one trial after the other, on all cores.

`python -m workflows.bench.plain_loop WORK.json OUT.json [STEPS]`: with STEPS, that many steps of each trial are timed
and the rest is scaled; then there are no accuracies.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

from trainables import freeze, models
from workflows.bench.work import BenchTrial, Work

_EVAL_BATCH = 64


def run(work: Work, sample: int | None) -> dict[str, Any]:
    """Train and score all trials; returns seconds and the best validation accuracy of each."""
    began, added = time.perf_counter(), 0.0
    accuracies = {}
    for trial in work.trials:
        if sample:
            added += _sampled(work, trial, sample)
        else:
            accuracies[trial.name] = _trial(work, trial)
    seconds = added if sample else time.perf_counter() - began
    return {"seconds": seconds, "accuracies": accuracies, "scaled": bool(sample)}


def _trial(work: Work, trial: BenchTrial) -> float:
    model, optimizer, scheduler, loaders = _prepared(work, trial)
    best = 0.0
    for _ in range(trial.training.num_train_epochs):
        model.train()
        for batch in loaders["train"]:
            _step(model, optimizer, scheduler, batch)
        best = max(best, _accuracy(model, loaders["validation"]))
    _accuracy(model, loaders["test"])
    return best


def _sampled(work: Work, trial: BenchTrial, sample: int) -> float:
    """Seconds that a whole trial would take, from some of its steps and of its batches of evaluation."""
    began = time.perf_counter()
    model, optimizer, scheduler, loaders = _prepared(work, trial)
    prepared = time.perf_counter() - began
    epochs = trial.training.num_train_epochs
    model.train()
    batches = itertools.chain.from_iterable(itertools.repeat(loaders["train"]))
    _step(model, optimizer, scheduler, next(batches))
    began = time.perf_counter()
    for _ in range(sample):
        _step(model, optimizer, scheduler, next(batches))
    step = (time.perf_counter() - began) / sample
    model.eval()
    began = time.perf_counter()
    with torch.no_grad():
        model(**_inputs(next(iter(loaders["test"]))))
    scored = time.perf_counter() - began
    return (
        prepared
        + epochs * (len(loaders["train"]) * step + len(loaders["validation"]) * scored)
        + len(loaders["test"]) * scored
    )


def _prepared(work: Work, trial: BenchTrial) -> tuple[nn.Module, Any, Any, dict[str, DataLoader]]:
    arguments = trial.training
    torch.manual_seed(work.seed)
    tokenizer = AutoTokenizer.from_pretrained(trial.model.path)
    loaders = {}
    for split in ("train", "validation", "test"):
        texts, labels = work.texts(split)
        encoded = tokenizer(
            texts, truncation=True, max_length=arguments.max_length, padding="max_length", return_tensors="pt"
        )
        tensors = TensorDataset(encoded["input_ids"], encoded["attention_mask"], torch.tensor(labels))
        batch_size = arguments.per_device_train_batch_size if split == "train" else _EVAL_BATCH
        loaders[split] = DataLoader(tensors, batch_size=batch_size, shuffle=split == "train")
    with models.quiet():
        model = AutoModelForSequenceClassification.from_pretrained(trial.model.path, num_labels=len(work.labels))
    trained = freeze.apply(model, trial.freeze, arguments, work.seed)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in trained.parameters() if parameter.requires_grad],
        lr=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
    )
    steps = arguments.num_train_epochs * len(loaders["train"])
    scheduler = get_linear_schedule_with_warmup(optimizer, int(arguments.warmup_steps * steps), steps)
    return trained, optimizer, scheduler, loaders


def _inputs(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"input_ids": batch[0], "attention_mask": batch[1]}


def _step(model: nn.Module, optimizer: Any, scheduler: Any, batch: list[torch.Tensor]) -> None:
    loss = nn.functional.cross_entropy(model(**_inputs(batch)).logits, batch[2])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()


def _accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    right = total = 0
    with torch.no_grad():
        for batch in loader:
            right += int((model(**_inputs(batch)).logits.argmax(dim=1) == batch[2]).sum())
            total += len(batch[2])
    return right / total


if __name__ == "__main__":
    given = Work.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    outcome = run(given, int(sys.argv[3]) if len(sys.argv) > 3 else None)
    Path(sys.argv[2]).write_text(json.dumps(outcome), encoding="utf-8")
