"""The loop of the tutorials: every text padded to max_length, fp32, one trial after the other, on all cores.

`python -m workflows.bench.plain_loop WORK.json OUT.json [STEPS | longest]`: with STEPS, that many steps of each trial
are timed and the rest is scaled; then there are no accuracies. With `longest`, texts are padded to the longest of their
batch only, which is faster and gives the same result.
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
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)

from trainables import freeze, models
from workflows.bench.work import BenchTrial, Work

_EVAL_BATCH = 64


def run(work: Work, sample: int | None, padding: str = "max_length") -> dict[str, Any]:
    """Train and score all trials; returns seconds, and each trial's best validation accuracy with its test accuracy."""
    began, added = time.perf_counter(), 0.0
    accuracies, tests = {}, {}
    for trial in work.trials:
        if sample:
            added += _sampled(work, trial, sample, padding)
        else:
            accuracies[trial.name], tests[trial.name] = _trial(work, trial, padding)
    seconds = added if sample else time.perf_counter() - began
    return {"seconds": seconds, "accuracies": accuracies, "tests": tests, "scaled": bool(sample)}


def _trial(work: Work, trial: BenchTrial, padding: str) -> tuple[float, float]:
    """The best validation accuracy, and the test accuracy of the same weights."""
    model, optimizer, scheduler, loaders = _prepared(work, trial, padding)
    best, weights = -1.0, {}
    for _ in range(trial.training.num_train_epochs):
        model.train()
        for batch in loaders["train"]:
            _step(model, optimizer, scheduler, batch)
        accuracy = _accuracy(model, loaders["validation"])
        if accuracy > best:
            best, weights = accuracy, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    return best, _accuracy(model, loaders["test"])


def _sampled(work: Work, trial: BenchTrial, sample: int, padding: str) -> float:
    """Seconds that a whole trial would take, from some of its steps and of its batches of evaluation."""
    began = time.perf_counter()
    model, optimizer, scheduler, loaders = _prepared(work, trial, padding)
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
        model(**next(iter(loaders["test"])))
    scored = time.perf_counter() - began
    return (
        prepared
        + epochs * (len(loaders["train"]) * step + len(loaders["validation"]) * scored)
        + len(loaders["test"]) * scored
    )


def _prepared(
    work: Work, trial: BenchTrial, padding: str
) -> tuple[nn.Module, Any, Any, dict[str, DataLoader[dict[str, torch.Tensor]]]]:
    arguments = trial.training
    torch.manual_seed(work.seed)
    tokenizer = AutoTokenizer.from_pretrained(trial.model.path)
    collate = DataCollatorWithPadding(tokenizer, padding=padding, max_length=arguments.max_length)
    loaders = {}
    for split in ("train", "validation", "test"):
        texts, labels = work.texts(split)
        encoded = tokenizer(texts, truncation=True, max_length=arguments.max_length)
        rows: Any = [
            {"input_ids": ids, "attention_mask": mask, "labels": label}
            for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
        ]
        batch_size = arguments.per_device_train_batch_size if split == "train" else _EVAL_BATCH
        loaders[split] = DataLoader(rows, batch_size=batch_size, shuffle=split == "train", collate_fn=collate)
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


def _step(model: nn.Module, optimizer: Any, scheduler: Any, batch: dict[str, torch.Tensor]) -> None:
    loss = model(**batch).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()


def _accuracy(model: nn.Module, loader: DataLoader[dict[str, torch.Tensor]]) -> float:
    model.eval()
    right = total = 0
    with torch.no_grad():
        for batch in loader:
            right += int((model(**batch).logits.argmax(dim=1) == batch["labels"]).sum())
            total += len(batch["labels"])
    return right / total


if __name__ == "__main__":
    given = Work.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    options = sys.argv[3:]
    steps = next((int(option) for option in options if option.isdecimal()), None)
    outcome = run(given, steps, "longest" if "longest" in options else "max_length")
    Path(sys.argv[2]).write_text(json.dumps(outcome), encoding="utf-8")
