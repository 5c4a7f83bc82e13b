"""From a YAML file and `--set` overrides to a checked SweepConfig. Every error names the line it stands on."""

from __future__ import annotations

import copy
import math
import re
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from trainables import freeze
from trainables.arguments import TrainingArguments
from trainables.errors import BadInput, nearest
from workflows import space, sweep_checks, yaml_file
from workflows.config import ModelChoice, SweepConfig
from workflows.sweep_checks import dotted
from workflows.yaml_file import Document, Location

SWEEP_WIDE = {
    "metric_for_best_model": "trials are ranked by one metric",
    "bf16": "precision is the same for all trials of a sweep",
    "save_steps": "no result depends on it",
}
# Names that people bring from older versions and other tools, and what stands in their place here.
RENAMED = {
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "max_seq_length": "max_length",
    "warmup_ratio": "warmup_steps (a value below 1 is a share of all steps)",
    "freeze_policy": "freeze",
    "model_name_or_path": "model",
    "fp16": "bf16 (mixed precision is bf16 here)",
    "max_steps": "num_train_epochs (it alone says how long a trial trains)",
}
# What people bring that has no counterpart, because there is nothing to choose.
NOT_NEEDED = {
    "evaluation_strategy": "validation is scored after every epoch",
    "eval_strategy": "validation is scored after every epoch",
    "eval_steps": "validation is scored after every epoch",
    "save_strategy": "the best epoch is kept, and every epoch can be continued from",
    "load_best_model_at_end": "the best epoch on validation is always what is scored and kept",
    "output_dir": "everything is in <storage>/<name>",
    "report_to": "everything is in MLflow; tracking.uri says in which",
    "optim": "the optimizer is AdamW",
    "group_by_length": "no text is padded to another's length",
}
_LONGEST_VALUE = 80
# How pydantic lists the names that a field takes.
_NAMED = re.compile(r"'([^']+)'")
# More digits number no item of any list.
_DIGITS = 10


def load(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read and check a sweep file. `overrides` are `a.b.0.c=value` texts; their values are YAML.

    Raises BadInput listing every error with `file:line` (or the override), the value and what is allowed.
    """
    document = yaml_file.load(path)
    for override in overrides:
        _apply(document, override)
    if not isinstance(document.value, dict):
        found = "nothing" if document.value is None else f"a {type(document.value).__name__}"
        raise BadInput(f"{path}: a sweep file is a mapping with name, data and search; found {found}")
    try:
        config = SweepConfig.model_validate(document.value)
    except ValidationError as error:
        raise BadInput(_render(error, SweepConfig, document, ())) from None
    problems = [*_axis_problems(config, document)] or sweep_checks.problems(config, document)
    if problems:
        raise BadInput("\n".join(problems))
    return config


def _apply(document: Document, override: str) -> None:
    """Set one value in the document. `*` stands for every item of a list."""
    key, found, text = override.partition("=")
    if not found or not key.strip():
        raise BadInput(f"--set {override}: write it as key=value, as in --set training.num_train_epochs=1")
    value = yaml_file.parse(text, f"--set {key}").value
    if document.value is None:
        document.value = {}
    mark = f"--set {override}" if len(override) <= _LONGEST_VALUE else f"--set {override[:_LONGEST_VALUE]} …"
    for location in _targets(document.value, key.strip().split("."), (), override):
        holder = document.value
        for step in location[:-1]:
            holder = holder[step]
        holder[location[-1]] = copy.deepcopy(value)
        document.marks = {known: mark for known, mark in document.marks.items() if known[: len(location)] != location}
        for length in range(1, len(location)):
            document.marks.setdefault(location[:length], mark)
        document.marks[location] = mark


def _targets(value: Any, steps: list[str], done: Location, override: str) -> Iterable[Location]:
    """Locations that a dotted key means; missing mappings on the way are made."""
    step, *rest = steps
    if isinstance(value, list):
        indices = range(len(value)) if step == "*" else [int(step)] if step.isdecimal() and len(step) < _DIGITS else []
        if not indices or max(indices) >= len(value):
            at = ".".join(map(str, done))
            raise BadInput(f"--set {override}: '{at}' is a list of {len(value)}; use 0 to {len(value) - 1}, or *")
        keys: list[str | int] = list(indices)
    elif isinstance(value, dict):
        keys = [step]
    else:
        raise BadInput(f"--set {override}: '{'.'.join(map(str, done))}' is a single value, it has no '{step}'")
    for key in keys:
        if not rest:
            yield (*done, key)
            continue
        if isinstance(value, dict) and value.get(step) is None:
            value[step] = {}
        yield from _targets(value[key], rest, (*done, key), override)


def _axis_problems(config: SweepConfig, document: Document) -> Iterable[str]:
    for index, block in enumerate(config.search.space):
        base: Location = ("search", "space", index)
        if "model" not in block:
            yield f"{document.where(base)}: search.space.{index}: 'model' is missing; every block needs one"
        for axis, value in block.items():
            yield from _one_axis(axis, value, config.search.algorithm, (*base, axis), document)


def _one_axis(axis: str, value: Any, algorithm: str, location: Location, document: Document) -> Iterable[str]:
    prefix = f"{document.where(location)}: {dotted(location)}"
    known = ["model", "freeze", *TrainingArguments.model_fields]
    if axis not in known:
        yield f"{prefix}: unknown axis; {_hint(axis, known)}"
    elif axis in SWEEP_WIDE:
        yield f"{prefix}: cannot be an axis, because {SWEEP_WIDE[axis]}; set it under training"
    elif value is None or value == []:
        yield f"{prefix}: has no values; give at least one"
    elif space.is_kind(axis, value):
        yield from _one_mapping(axis, value, algorithm, location, document)
    else:
        yield from _values(axis, value, location, document)


def _one_mapping(
    axis: str, value: dict[str, Any], algorithm: str, location: Location, document: Document
) -> Iterable[str]:
    """An axis that is written as {kind: …}."""
    prefix = f"{document.where(location)}: {dotted(location)}"
    kind, *more = value or [""]
    if more or kind not in space.KINDS:
        told = f"'{kind}' is unknown; {nearest(kind, space.KINDS)}" if kind and not more else "takes one key"
        yield f"{prefix}: {told}; write a range as in {{loguniform: [1e-5, 1e-3]}}, or list the values"
    elif kind == space.CHOICE and not (isinstance(value[kind], list) and value[kind]):
        yield f"{prefix}: choice takes a list of values"
    elif kind == space.CHOICE:
        yield from _values(axis, value[kind], (*location, kind), document)
    elif algorithm == "grid":
        yield f"{prefix}: a range needs search.algorithm random or optuna; under grid, list the values"
    elif problem := _range_problem(axis, kind, value[kind]):
        yield f"{prefix}: {kind}: {value[kind]!r}: {problem}"
    else:
        found = space.RANGES[kind](*value[kind])
        for index, end in enumerate((found.low, found.last)):
            yield from _one_value(axis, end, (*location, kind, index), document)


def _range_problem(axis: str, kind: str, bounds: Any) -> str | None:
    """What is wrong with a range on an axis, but for the values that the axis itself refuses."""
    if axis in ("model", "freeze"):
        return "a name cannot be drawn from a range; list the names"
    numbers = bounds if isinstance(bounds, list) else []
    if len(numbers) != 2 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        return "takes two numbers, [low, high]"
    if not all(math.isfinite(bound) for bound in numbers if isinstance(bound, float)):
        return "takes two finite numbers, [low, high]"
    found = space.RANGES[kind](*numbers)
    if not found.whole and _is_whole(axis):
        return f"{axis} is a whole number; use randint: [low, high], where high is excluded"
    return found.problem()


def _is_whole(axis: str) -> bool:
    return TrainingArguments.model_fields[axis].annotation is int


def _values(axis: str, value: Any, location: Location, document: Document) -> Iterable[str]:
    """The values of an axis that lists them: a scalar (or one model given as a mapping) is a list of one."""
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        yield from _one_value(axis, item, (*location, index) if isinstance(value, list) else location, document)


def _one_value(axis: str, item: Any, location: Location, document: Document) -> Iterable[str]:
    prefix = f"{document.where(location)}: {dotted(location)}"
    if space.is_kind(axis, item):
        yield f"{prefix}: a range stands alone, not in a list; for several ranges write several blocks"
        return
    try:
        if axis == "model":
            ModelChoice.model_validate(item)
        elif axis == "freeze":
            if not isinstance(item, str):
                yield f"{prefix}: {item!r} is not the name of a freeze policy"
                return
            freeze.parse(item)
        else:
            TrainingArguments.model_validate({axis: item})
    except BadInput as error:
        yield f"{prefix}: {str(error).removeprefix('freeze: ')}"
    except ValidationError as error:
        drop = 0 if axis == "model" else 1
        yield _render(error, ModelChoice if axis == "model" else TrainingArguments, document, location, drop)


def _render(error: ValidationError, model: type[BaseModel], document: Document, base: Location, drop: int = 0) -> str:
    """One line per error: where, field, what is wrong, the value. `drop` leading parts of a location are in `base`."""
    lines = []
    for item in error.errors(include_url=False):
        inner = _plain(item["loc"][drop:], document, base)
        location = (*base, *inner)
        lines.append(f"{document.where(location)}: {dotted(location)}: {_sentence(dict(item), model)}")
    return "\n".join(dict.fromkeys(lines))


def _plain(location: Iterable[Any], document: Document, base: Location) -> Location:
    """Drop the parts that pydantic adds for the branch of a union; they are in no file."""
    kept: Location = ()
    steps = list(location)
    for position, step in enumerate(steps):
        last = position == len(steps) - 1
        in_file = (*base, *kept, step) in document.marks
        looks_like_type = isinstance(step, str) and ("[" in step or step in ("str", "int", "float", "bool"))
        if in_file or (last and not looks_like_type):
            kept = (*kept, step)
    return kept


def _sentence(item: dict[str, Any], model: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        *parents, key = item["loc"]
        return f"unknown key; {_hint(str(key), _fields(model, parents))}"
    if item["type"] == "missing":
        return "is missing"
    message = item["msg"].removeprefix("Value error, ")
    value = item["input"]
    shown = f"{_short(value)}: " if isinstance(value, (str, int, float)) or value is None else ""
    if item["type"] == "literal_error" and isinstance(value, str):
        message = f"unknown; {nearest(value, re.findall(_NAMED, item['ctx']['expected']))}"
    return f"{shown}{message[0].lower()}{message[1:]}"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]} …"


def _hint(name: str, known: Iterable[str]) -> str:
    known = list(known)
    if name in NOT_NEEDED and "learning_rate" in known:
        return f"leave it out: {NOT_NEEDED[name]}. Known: {', '.join(known)}"
    if name in RENAMED and RENAMED[name].split()[0] in known:
        return f"use {RENAMED[name]}. Known: {', '.join(known)}"
    return nearest(name, known)


def _fields(model: type[BaseModel], parents: Iterable[Any]) -> list[str]:
    """Field names of the model that a location leads to."""
    for step in parents:
        field = model.model_fields.get(str(step))
        inner = (
            [part for part in (field.annotation, *typing.get_args(field.annotation)) if isinstance(part, type)]
            if field
            else []
        )
        model = next((part for part in inner if issubclass(part, BaseModel)), model)
    return list(model.model_fields)
