"""What each value of a sweep file allows, but not here: beside other values, in a file, or in such numbers.

Every check takes a config that is valid by itself, with the document that it was read from, and yields one line for
each problem. `workflows.sweep_file.load` runs them all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from trainables.redaction import holds_secret, redact
from workflows import space
from workflows.config import SweepConfig
from workflows.yaml_file import Document, Location

_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")
# Where a `$` can only be meant as a variable. Labels and columns are called as the data calls them.
_WITHOUT_VARIABLES = ("name", "storage", "tracking", "data.path", "data.splits", "search.space")
_THE_USERS_OWN = ("data.labels", "data.text_column", "data.label_column")
_SHOWN = 60


def problems(config: SweepConfig, document: Document) -> list[str]:
    """What is wrong with a config whose values and axes are each allowed: one line per problem, with its place."""
    found = [*_misplaced(config, document), *_secrets(document), *_variables(document)]
    return found or [*_grace_problems(config, document), *_too_many(config, document)]


def dotted(location: Location) -> str:
    """A location as `--set` writes it."""
    return ".".join(map(str, location)) or "the file"


def grid_size(config: SweepConfig) -> int:
    """How many trials a grid has at most: the sum over its blocks of the product of their axes, times the seeds."""
    return sum(math.prod(sizes.values()) for sizes in _axes(config))


def _axes(config: SweepConfig) -> Iterator[dict[str, int]]:
    """For each block how many values each axis has, and how many seeds there are."""
    seeds = len(set(config.search.seeds))
    for block in space.parse(config.search):
        yield {name: len(axis.listed() or ()) for name, axis in block.axes.items()} | {"seeds": seeds}


def _too_many(config: SweepConfig, document: Document) -> Iterable[str]:
    """A space of very many trials is a slip: a comma too many, or a range that was written out."""
    search = config.search
    points = search.num_trials or 0
    total = grid_size(config) if search.algorithm == "grid" else points * len(set(search.seeds))
    if total <= search.max_trials:
        return
    if search.algorithm == "grid":
        where, product = ("search", "space"), "; ".join(map(_product, _axes(config)))
    else:
        where, product = ("search", "num_trials"), f"{points:,} points × {len(set(search.seeds)):,} seeds"
    yield (
        f"{document.where(where)}: {dotted(where)}: {total:,} trials ({product}), but search.max_trials allows "
        f"{search.max_trials:,}; take values away, or allow them (--set search.max_trials={total})"
    )


def _product(sizes: dict[str, int]) -> str:
    return " × ".join(f"{name} {size:,}" for name, size in sizes.items() if size > 1) or "1"


def _misplaced(config: SweepConfig, document: Document) -> Iterable[str]:
    """What the sweep file may say but not here: it needs another setting beside it, or is not built yet."""
    search, given = config.search, config.search.model_fields_set
    drawn, halving = search.algorithm != "grid", search.scheduler == "asha"
    if drawn and search.num_trials is None:
        where = document.where(("search", "algorithm"))
        yield f"{where}: search.num_trials: is missing; {search.algorithm} needs to know how many points to try"
    refused: list[tuple[Location, bool, str]] = [
        (("search", "num_trials"), not drawn and search.num_trials is not None, "is for random and optuna"),
        (("search", "seed"), not drawn and "seed" in given, "is for random and optuna"),
        (("search", "grace_period"), not halving and "grace_period" in given, "is for the scheduler asha"),
        (("search", "reduction_factor"), not halving and "reduction_factor" in given, "is for the scheduler asha"),
        (("resources", "workers_per_trial"), config.resources.workers_per_trial > 1, "only 1 is there yet"),
        (("storage",), "://" in config.storage, "only a folder is there yet"),
    ]
    for location, applies, message in refused:
        if applies:
            value = document.value
            for step in location:
                value = value[step]
            yield f"{document.where(location)}: {dotted(location)}: {value!r}: {message}"


def _grace_problems(config: SweepConfig, document: Document) -> Iterable[str]:
    """A grace period beyond the last epoch would never let asha stop anything."""
    search = config.search
    epochs = space.largest(space.parse(search), "num_train_epochs", config.training.num_train_epochs)
    if search.scheduler == "asha" and search.grace_period >= epochs:
        where = document.where(("search", "grace_period"))
        yield f"{where}: search.grace_period: {search.grace_period}: must be below num_train_epochs, which is {epochs}"


def _secrets(document: Document) -> Iterable[str]:
    """A sweep file is committed, copied to the cluster and kept with the runs. What --set brings is not in it."""
    for location, text in _texts(document.value, ()):
        where = document.where(location)
        if _within(location, _THE_USERS_OWN) or where.startswith("--set") or not holds_secret(text):
            continue
        name = dotted(location)
        yield (
            f"{where}: {name}: {redact(text)[:_SHOWN]!r}: looks like a secret, and a sweep file is no place for one; "
            f'take it from the environment: --set {name}="$VARIABLE"'
        )


def _variables(document: Document) -> Iterable[str]:
    """`${SCRATCH}/runs` would become a folder of that very name."""
    for location, text in _texts(document.value, ()):
        found, where = _VARIABLE.search(text), document.where(location)
        password = location[:1] == ("tracking",) and where.startswith("--set")
        if found is None or password or not _within(location, _WITHOUT_VARIABLES):
            continue
        name = dotted(location)
        yield (
            f"{where}: {name}: {redact(text)[:_SHOWN]!r}: variables such as {found[0]} are not "
            f'replaced in a sweep file; let the shell do it: --set {name}="…${found[1]}…"'
        )


def _within(location: Location, sections: Iterable[str]) -> bool:
    name = dotted(location)
    return any(name == section or name.startswith(f"{section}.") for section in sections)


def _texts(value: Any, location: Location) -> Iterator[tuple[Location, str]]:
    """Every text in a document, with its location."""
    if isinstance(value, str):
        yield location, value
    elif isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*location, key))
