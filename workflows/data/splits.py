"""Cutting rows into splits: stratified by class, seeded, equal texts and groups never on both sides.

A unit is what must stay together: the rows of one text, or of one component of texts and groups. `cut` chooses
units, `subsample` caps a split. Both are pure functions of arrays, so they can be tested without any file.
"""

from __future__ import annotations

import unicodedata
import warnings
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

from trainables.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MAX_FOLDS = 20
# StratifiedGroupKFold takes about 0.3 ms per group on one core; above this, groups are small against the data
MANY_GROUPS = 20_000
SEPARATOR = "\x1f"


def normalised(texts: pd.Series, pairs: pd.Series | None = None) -> list[str]:
    """What two texts must share to count as equal: NFKC (Unicode UAX 15), case folded, white space collapsed."""
    keys = [normalise(text) for text in texts]
    if pairs is None:
        return keys
    # the separator is white space to str.split, so no normalised text holds it
    return [f"{key}{SEPARATOR}{normalise(pair)}" for key, pair in zip(keys, pairs, strict=True)]


def units_of(texts: list[str] | np.ndarray, groups: pd.Series | None = None) -> np.ndarray:
    """Number the units, int64, shape (rows,): connected components of (same group or equal normalised text).

    Without groups a unit is a distinct text. A missing group binds nothing.
    """
    import numpy as np
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    text_ids = pd.factorize(np.asarray(texts, dtype=object))[0]
    if groups is None:
        return text_ids
    group_ids = pd.factorize(groups)[0]
    bound = group_ids >= 0
    nodes = int(text_ids.max()) + int(group_ids.max()) + 2
    ends = (text_ids[bound], group_ids[bound] + int(text_ids.max()) + 1)
    graph = coo_array((np.ones(int(bound.sum()), dtype=np.int8), ends), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][text_ids].astype(np.int64)


def cut(
    units: np.ndarray, classes: np.ndarray, fraction: float, seed: int, names: tuple[str, ...], grouped: bool, what: str
) -> np.ndarray:
    """Choose the rows of a split to be cut from train: bool, shape (rows,); whole units, about `fraction` of them.

    `classes` are ids into `names`. Every class keeps a unit on both sides where units have one class each. With
    `grouped`, folds of sklearn's StratifiedGroupKFold are taken. Raises BadInput where a class or the groups are
    too few, naming it; `what` stands for the split in messages ("the test").
    """
    import numpy as np

    _, units = np.unique(units, return_inverse=True)
    if grouped and units.max() < MANY_GROUPS:
        return _folds(units, classes, fraction, seed, what)
    strata = _majority(units, classes)
    counts = np.bincount(strata, minlength=len(names))
    rare = np.flatnonzero((counts < 2) & (np.bincount(classes, minlength=len(names)) > 0))
    if len(rare):
        kind = "groups" if grouped else "distinct texts"
        raise BadInput(
            f"{what} split cannot be cut from train: the class '{names[rare[0]]}' has {counts[rare[0]]} {kind} there, "
            f"at least 2 are needed; merge or drop the class (data.labels), or name {what} split in data.splits"
        )
    present = int((counts > 0).sum())
    size = int(np.clip(round(fraction * len(strata)), present, len(strata) - present))
    return _choose(strata, size, seed, spare=1)[units]


def subsample(classes: np.ndarray, size: int, seed: int, setting: str) -> np.ndarray:
    """Choose at most `size` rows, stratified, each class keeping at least one: bool, shape (rows,).

    Raises BadInput where `size` is below the number of classes; `setting` names it in the message.
    """
    import numpy as np

    if size >= len(classes):
        return np.ones(len(classes), dtype=bool)
    present = len(np.unique(classes))
    if size < present:
        raise BadInput(f"{setting}: {size} rows cannot hold {present} classes; at least {present} are needed")
    return _choose(classes, size, seed, spare=0)


def allocate(counts: np.ndarray, size: int, spare: int) -> np.ndarray:
    """How many of each stratum to take, int64: proportional by largest remainders, at least 1, all but `spare`.

    Largest remainders (Hamilton's method) as in sklearn's stratified splits, but without their zero for a rare
    class. `counts` are above `spare`, and `size` lies between the number of strata and what is left of them.
    """
    import numpy as np

    exact = counts * (size / counts.sum())
    take = np.clip(np.floor(exact), 1, counts - spare)
    while gap := int(size - take.sum()):
        step = 1 if gap > 0 else -1
        room = take < counts - spare if gap > 0 else take > 1
        if not room.any():
            break
        take[np.where(room, (exact - take) * step, -np.inf).argmax()] += step
    return take.astype(np.int64)


def normalise(text: str) -> str:
    """One text as `normalised` compares it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _choose(strata: np.ndarray, size: int, seed: int, spare: int) -> np.ndarray:
    """Mark `size` items, drawn at random within each stratum."""
    import numpy as np

    strata = np.unique(strata, return_inverse=True)[1]
    counts = np.bincount(strata)
    take = allocate(counts, size, spare)
    # RandomState, because numpy promises that its stream never changes (NEP 19), and trial ids hang on it
    shuffled = np.random.RandomState(seed).permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    rank = np.arange(len(strata)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(strata), dtype=bool)
    chosen[by_stratum[rank < np.repeat(take, counts)]] = True
    return chosen


def _majority(units: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The most frequent class of each unit, the lowest id where two are equal: int64, shape (units,)."""
    import numpy as np

    pairs, counts = np.unique(units * (int(classes.max()) + 1) + classes, return_counts=True)
    unit, label = np.divmod(pairs, int(classes.max()) + 1)
    order = np.lexsort((label, -counts, unit))
    return label[order][np.searchsorted(unit[order], np.arange(int(units.max()) + 1))]


def _folds(units: np.ndarray, classes: np.ndarray, fraction: float, seed: int, what: str) -> np.ndarray:
    """Take m of n folds, m/n as near to `fraction` as n ≤ 20 allows."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    share = Fraction(min(max(fraction, 1 / MAX_FOLDS), 1 - 1 / MAX_FOLDS)).limit_denominator(MAX_FOLDS)
    number = share.denominator
    groups = int(units.max()) + 1
    if groups < number:
        raise BadInput(
            f"{what} split cannot be cut from train: {groups} groups (of data.group_column or equal texts) are left, "
            f"but cutting {fraction:g} needs {number}; set a larger fraction, or name {what} split (data.splits)"
        )
    folds = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    chosen = np.zeros(len(units), dtype=bool)
    with warnings.catch_warnings():
        # a class rarer than the folds is reported by our own check, with its name
        warnings.simplefilter("ignore", UserWarning)
        try:
            for _, rows in islice(folds.split(classes, classes, units), share.numerator):
                chosen[rows] = True
        except ValueError:
            raise BadInput(f"{what} split cannot be cut from train: every class has fewer than {number} rows") from None
    if chosen.all() or not chosen.any():
        raise BadInput(f"{what} split cannot be cut from train: one of its {groups} groups holds nearly all rows")
    return chosen
