"""A Draft as the text of a sweep file, with a comment on every line that somebody might want to change.

All that comes from the data is inert: as a value it is quoted, in a comment it is one line of printable characters.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from workflows.yaml_file import scalar

if TYPE_CHECKING:
    from workflows.draft import Draft

_SHOWN_CLASSES = 20
_FEW_ROWS = 10
_MANY_ROWS = 50_000
_COMMENT_WIDTH = 60
_PLAIN = re.compile(r"(\./|/|pkg://)?[A-Za-z0-9_][A-Za-z0-9_./-]*")
# Rates that the papers of BERT (full: Devlin et al. 2019) and LoRA (Hu et al. 2021) search near; a head alone, which
# starts at random, needs far larger ones.
_POLICIES = (
    ("full", "2.0e-5, 5.0e-5", "all weights train: usually the best, and the slowest"),
    ("top-2", "5.0e-5, 1.0e-4", "the last two layers and the head train: faster"),
    ("head", "1.0e-3, 3.0e-3", "the head alone trains: the fastest, and what the encoder knows already must do"),
    ("lora", "3.0e-4, 1.0e-3", "small adapters in every layer and the head train"),
)


def sweep_file(draft: Draft) -> str:
    """The whole file; `workflows.sweep_file.load` accepts it."""
    sections = (_name(draft), _data(draft), _search(draft), _training(draft), _rest())
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def quoted(text: str) -> str:
    """Text as a YAML scalar that is read as this text: plain where nothing else could be read, else in quotes.

    Always quoting the rest covers what PyYAML would leave plain and YAML 1.2 reads as a number, such as 1e5.
    """
    if _PLAIN.fullmatch(text) and isinstance(scalar(text), str):
        return text
    # an endless width, because a folded scalar would need the indentation of the line it stands on
    dumped = yaml.safe_dump([text], default_style='"', default_flow_style=True, allow_unicode=True, width=float("inf"))
    return dumped.strip()[1:-1]


def remark(text: str, width: int = _COMMENT_WIDTH) -> str:
    """Text for a comment or the screen: one line of printable characters, cut at `width`."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def guessed(draft: Draft) -> list[str]:
    """What was guessed and why, a line per column."""
    guess = draft.guess
    texts = ", ".join(remark(f"'{name}'") for name in guess.text)
    pair = f", second sentence {remark(repr(guess.pair))}" if guess.pair else ""
    lines = [
        f"text: {texts}{pair} ({remark(guess.reasons['text'], 120)})",
        f"label: {remark(repr(guess.label))} ({remark(guess.reasons['label'], 120)})",
    ]
    if guess.split:
        lines.append(f"split: {remark(repr(guess.split))} says which rows are train, validation and test")
    if guess.others:
        lines.append(f"not used: {remark(', '.join(guess.others), 120)}")
    return lines


def lengths(draft: Draft) -> str:
    """What is known of the texts' lengths, and what max_length does to them."""
    found = draft.lengths
    how = "tokens" if found.counted else "tokens (estimated: words × 1.35 + 2)"
    return f"{how}: {_quantiles(found.tokens)}; {found.cut:.1%} of texts are longer than max_length"


def _name(draft: Draft) -> list[str]:
    return [
        "# A first sweep file, written by `fleetune init` from the data. Change what you know better, then run it with",
        "# `fleetune sweep`, from the same folder: relative paths start there.",
        f"name: {quoted(draft.name)}   # results go to <storage>/<name>",
    ]


def _data(draft: Draft) -> list[str]:
    data, rows = draft.data, draft.found.rows
    text = [data.text_column] if isinstance(data.text_column, str) else data.text_column
    values = ", ".join(map(quoted, text))
    lines = [
        *_comments("", "What to learn from: " + ", ".join(f"{count:,} {split}" for split, count in rows.items())),
        "data:",
        f"  path: {quoted(data.path)}",
        *_comments("  ", *guessed(draft)),
        f"  text_column: {values}" if len(text) == 1 else f"  text_column: [{values}]",
    ]
    lines += [f"  text_pair_column: {quoted(data.text_pair_column)}"] if data.text_pair_column is not None else []
    lines += [f"  label_column: {quoted(data.label_column)}"]
    lines += [f"  split_column: {quoted(data.split_column)}"] if data.split_column is not None else []
    lines += _comments(
        "  ",
        "Where rows belong together (one author, product or thread), set group_column to the column that says so:",
        "then they never fall on both sides of a split.",
    )
    return lines + _labels(draft) + _notes(draft)


def _labels(draft: Draft) -> list[str]:
    """Classes with counts and shares, and the mapping that leaves out those that cannot be split."""
    counts = sorted(draft.train.items(), key=lambda item: -item[1])
    total = sum(draft.train.values())
    lines = _comments(
        "  ",
        f"{len(counts)} classes in train:",
        *(f"  {remark(name)}: {count:,} ({count / total:.1%})" for name, count in counts[:_SHOWN_CLASSES]),
        *([f"  … and {len(counts) - _SHOWN_CLASSES} more"] if len(counts) > _SHOWN_CLASSES else []),
    )
    few = [name for name, count in counts if count < _FEW_ROWS]
    if few:
        names = ", ".join(map(remark, few[:_SHOWN_CLASSES])) + (", …" if len(few) > _SHOWN_CLASSES else "")
        lines += _comments("  ", f"Fewer than {_FEW_ROWS} rows, so hard to learn and to score: {names}")
    if draft.left_out and draft.data.labels:
        names = ", ".join(map(remark, list(draft.left_out)[:_SHOWN_CLASSES]))
        lines += _comments("  ", f"Left out, with fewer than 3 distinct texts (one per split): {names}")
        lines += ["  labels:", *(f"    {quoted(key)}: {quoted(name)}" for key, name in draft.data.labels.items())]
    return lines


def _notes(draft: Draft) -> list[str]:
    lines = _comments("  ", *(remark(note, 200) for note in draft.found.notes))
    if draft.found.rows["train"] > _MANY_ROWS:
        lines += _comments(
            "  ",
            "That is much to train on for each trial. For a first comparison, cap the splits under sizes, whose keys",
            "are train, validation and test.",
        )
    return lines


def _search(draft: Draft) -> list[str]:
    lines = [
        "# What to try: each block is the product of its lists. How much of the model trains, and at which rates.",
        "search:",
        "  space:",
    ]
    for freeze, rates, what in _POLICIES:
        if freeze == "top-2" and not draft.has_top_2:
            lines += ["    # no top-2: this model has too few layers for it, or one set of weights for all of them"]
            continue
        rank = ["      lora_r: 8   # size of the adapters"] if freeze == "lora" else []
        lines += [
            f"    - model: {quoted(draft.model)}",
            f"      freeze: {freeze}   # {what}",
            *rank,
            f"      learning_rate: [{rates}]",
        ]
    return [*lines, "  seeds: [42]   # two more seeds show how much of a difference is chance"]


def _training(draft: Draft) -> list[str]:
    found = draft.lengths
    even = "the classes are about as large as each other, so accuracy tells how good a classifier is"
    why = f"{draft.imbalance}: accuracy would reward guessing it" if draft.imbalance else even
    return [
        "# The same for all trials. All but the metric may be an axis above instead.",
        "training:",
        f"  num_train_epochs: {draft.epochs}   # for {draft.found.rows['train']:,} train rows; the best epoch wins",
        f"  per_device_train_batch_size: {draft.batch_size}",
        *_comments("  ", f"words: {_quantiles(found.words)}", f"characters: {_quantiles(found.characters)}"),
        *_comments("  ", lengths(draft)),
        f"  max_length: {found.max_length}   # tokens per text; time grows with it",
        *_comments("  ", why),
        f"  metric_for_best_model: {draft.metric}   # picks the epoch and ranks the trials, on validation",
    ]


def _rest() -> list[str]:
    return [
        "# What any encoder must beat, on the same splits.",
        "baselines: [majority, tfidf]",
        "",
        "# The folder of the results; several machines need one that all of them reach.",
        "storage: runs",
    ]


def _quantiles(values: tuple[int, int, int]) -> str:
    median, most, longest = values
    return f"median {median:,}, 95 % at most {most:,}, longest {longest:,}"


def _comments(indent: str, *lines: str) -> list[str]:
    return [f"{indent}# {line}" for line in lines]
