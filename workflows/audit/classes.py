"""Findings about classes: missing, rare or alone in a split, spelled in two ways, or no classes at all."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainables.records import Split
from workflows.audit.facts import Facts
from workflows.audit.finding import EXAMPLES, Finding
from workflows.data.labels import shown
from workflows.data.splits import normalise

if TYPE_CHECKING:
    import numpy as np

# Fewer rows of a class than this give a model next to nothing to learn from.
FEW: dict[Split, int] = {"train": 10, "validation": 2, "test": 2}
# More classes than this, with fewer rows of train each than that, are hardly meant as classes.
_MANY_CLASSES, _ROWS_PER_CLASS = 50, 5
# More numbers than this as classes look like a quantity.
_MANY_NUMBERS = 20
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_MERGE = "merge it with another one or drop it (data.labels), or add rows"


def one_class(facts: Facts) -> Iterator[Finding]:
    """A split of one class alone, where every score says what that class says."""
    for split, here in facts.splits.items():
        counts = facts.counts(split)
        if len(here) and (counts > 0).sum() == 1:
            only = facts.labels[int(counts.argmax())]
            yield Finding(
                name="one_class",
                grade="warning",
                count=len(here),
                share=1.0,
                splits=(split,),
                rows=here.examples(here.labels >= 0),
                message=f"{split} holds the class '{only}' alone ({len(here):,} rows)",
                remedy=f"bring rows of other classes into {split}, or let it be cut from train (data.splits)",
            )


def missing_classes(facts: Facts) -> Iterator[Finding]:
    """Classes without a row in a split: nothing is learned or known of them there."""
    for split in facts.splits:
        counts = facts.counts(split)
        missing = [facts.labels[index] for index in (counts == 0).nonzero()[0]]
        if missing and (counts > 0).sum() > 1:
            what = "cannot be learned" if split == "train" else "are not measured there"
            yield Finding(
                name="missing_classes",
                grade="warning",
                count=len(missing),
                share=len(missing) / len(facts.labels),
                splits=(split,),
                message=f"{_classes(len(missing))} without a row in {split}: {shown(missing)}",
                remedy=f"they {what}: add rows, move some there, or drop the class (data.labels)",
            )


def rare_classes(facts: Facts) -> Iterator[Finding]:
    """Classes with few rows in train, or with one in another split."""
    for split, here in facts.splits.items():
        counts = facts.counts(split)
        rare = ((counts > 0) & (counts < FEW[split])).nonzero()[0]
        if len(rare):
            named = [f"{facts.labels[index]} ({counts[index]})" for index in rare]
            few = f"fewer than {FEW[split]} rows" if split == "train" else "a single row"
            yield Finding(
                name="rare_classes",
                grade="warning",
                count=len(rare),
                share=len(rare) / len(facts.labels),
                splits=(split,),
                rows=here.examples(_of(facts, split, rare)),
                message=f"{_classes(len(rare))} with {few} in {split}: {shown(named)}",
                remedy=_MERGE,
            )


def label_spelling(facts: Facts) -> Iterator[Finding]:
    """Classes whose names differ by case, spaces or Unicode forms alone: most often one class, learned as two."""
    spellings = defaultdict(list)
    for index, name in enumerate(facts.labels):
        spellings[normalise(name)].append(index)
    alike = [indices for indices in spellings.values() if len(indices) > 1]
    if alike:
        rarer = [index for indices in alike for index in sorted(indices, key=lambda index: -_total(facts, index))[1:]]
        named = "; ".join(" = ".join(f"'{facts.labels[index]}'" for index in indices) for indices in alike[:EXAMPLES])
        rows = sorted(row for split, here in facts.splits.items() for row in here.rows[_of(facts, split, rarer)])
        yield Finding(
            name="label_spelling",
            grade="warning",
            count=sum(map(len, alike)),
            share=sum(map(len, alike)) / len(facts.labels),
            splits=tuple(split for split, here in facts.splits.items() if _of(facts, split, rarer).any()),
            rows=tuple(map(int, rows[:EXAMPLES])),
            message=f"{_classes(sum(map(len, alike)))} whose names differ by case or spaces alone: {named}",
            remedy="give each spelling the same name under data.labels, as in {Pos: pos, pos: pos}",
        )


def id_like_labels(facts: Facts) -> Iterator[Finding]:
    """Labels that look like an id or a quantity: very many, or numbers. (What cannot be labels at all is refused.)"""
    classes, rows = len(facts.labels), len(facts.splits["train"])
    numbers = classes > _MANY_NUMBERS and all(_NUMBER.fullmatch(name.strip()) for name in facts.labels)
    if numbers or (classes > _MANY_CLASSES and rows < _ROWS_PER_CLASS * classes):
        looks = "a number to be predicted" if numbers else "an id"
        yield Finding(
            name="id_like_labels",
            grade="warning",
            count=classes,
            share=None,
            splits=("train",),
            message=f"{classes:,} classes for {rows:,} rows of train ({shown(facts.labels[:5])}, …): "
            f"the label column looks like {looks}",
            remedy="name the right column (data.label_column), or merge values into classes (data.labels)",
        )


def _of(facts: Facts, split: Split, classes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Which rows of a split are of some classes."""
    import numpy as np

    return np.isin(facts.splits[split].labels, classes)


def _total(facts: Facts, index: int) -> int:
    return sum(int(facts.counts(split)[index]) for split in facts.splits)


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count:,} classes"
