"""Sweep files and overrides that cannot work, or hardly: numbers 1 to 40 of the list."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from tests.bad_input.rows import SWEEP, Row
from tests.tiny import edit_config


def sweep(**changes: object) -> str:
    return yaml.safe_dump({**SWEEP, **changes})


def space(**axes: object) -> str:
    return sweep(search={"space": [{"model": "./bert", **axes}]})


def copied(folder: Path) -> Path:
    """The tiny BERT as a folder `mine` that a row may change."""
    return Path(shutil.copytree(folder / "bert", folder / "mine"))


def with_config(**changes: object):
    return lambda folder: edit_config(copied(folder), **changes)


def without(*names: str):
    def change(folder: Path) -> None:
        mine = copied(folder)
        for name in names:
            (mine / name).unlink()

    return change


def pickled(folder: Path) -> None:
    (copied(folder) / "model.safetensors").rename(folder / "mine" / "pytorch_model.bin")


def with_code(folder: Path) -> None:
    edit_config(copied(folder), auto_map={"AutoModel": "modeling_mine.Mine"})


def small_vocabulary(folder: Path) -> None:
    edit_config(copied(folder), vocab_size=10)


def cut_tokenizer(folder: Path) -> None:
    path = copied(folder) / "tokenizer.json"
    path.write_text(path.read_text()[:-100])


def other_tokenizer(folder: Path) -> None:
    (copied(folder) / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": None}))


def cut_weights(folder: Path) -> None:
    path = copied(folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


MINE = "search.space.0.model=./mine"
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
)
THOUSAND = [round(index * 1e-6, 6) for index in range(1, 1001)]
SECRET = "hf_" + "a1B2c3D4e5F6g7H8i9J0" + "kLmNoPqRsTuVwX"

CONFIG_ROWS = [
    Row("1", "the file is missing", file="swep.yaml", says=("swep.yaml: no such file; did you mean 'sweep.yaml'?",)),
    Row("1", "the file is a folder", file="bert", says=("bert: is a folder; name a YAML file in it",)),
    Row("2", "the file is empty", text="", says=("sweep.yaml: a sweep file is a mapping with name, data", "nothing")),
    Row("2", "the file has comments only", text="# later\n", says=("found nothing",)),
    Row("3", "a bracket is left open", text="name: [x\ndata: y\n", says=("sweep.yaml:2: not valid YAML: ",)),
    Row("3", "a tab indents", text="name: x\ndata:\n\tpath: y\n", says=("sweep.yaml:3: not valid YAML: ", "'\\t'")),
    Row("4", "the top is a list", text="- name: x\n", says=("sweep.yaml: a sweep file is a mapping", "found a list")),
    Row(
        "5",
        "an unknown key",
        text=sweep(training={"learning_rates": 1e-5}),
        says=(
            "training.learning_rates: unknown key; did you mean 'learning_rate'? Known: learning_rate, ",
            "sweep.yaml:11: ",
        ),
    ),
    Row(
        "5",
        "an unknown axis",
        text=space(learning_rates=[1e-5]),
        says=("search.space.0.learning_rates: unknown axis; did you mean 'learning_rate'? Known: model, ",),
    ),
    Row(
        "6",
        "a key twice",
        text="name: x\ndata: y\nname: z\n",
        says=("sweep.yaml:3: the key 'name' stands twice (", "1)"),
    ),
    Row("7", "1e-5 without a dot", text=space(learning_rate="RATE").replace("RATE", "1e-5"), accepted=True),
    Row("7", "1e-5 in quotes", text=space(learning_rate="RATE").replace("RATE", "'1e-5'"), accepted=True),
    *(
        Row(
            "8", f"learning rate {rate}", (f"search.space.0.learning_rate={rate}",), (f"learning_rate: {shown}: ", says)
        )
        for rate, shown, says in [
            ("0", "0", "greater than 0"),
            ("-1e-5", "-1e-05", "greater than 0"),
            (".nan", "nan", "finite number"),
            (".inf", "inf", "finite number"),
            ("5.0", "5.0", "less than 1"),
        ]
    ),
    Row(
        "8",
        "learning rate 0.05",
        ("search.space.0.learning_rate=0.05",),
        ("search.space.0.learning_rate: 0.05 is high",),
        accepted=True,
    ),
    Row(
        "8",
        "learning rate 0.05 for all",
        text=sweep(search={"space": [{"model": "./bert"}]}, training={"learning_rate": 0.05}),
        says=("training.learning_rate: 0.05 is high",),
        accepted=True,
    ),
    Row(
        "9", "an empty list", ("search.space.0.learning_rate=[]",), ("learning_rate: has no values; give at least one",)
    ),
    Row(
        "10",
        "a value twice",
        ("search.space.0.learning_rate=[1e-3, 0.001]",),
        ("search.space.0.learning_rate: 0.001 stands more than once; it is tried once",),
        accepted=True,
    ),
    Row("10", "a seed twice", ("search.seeds=[7, 7]",), ("search.seeds: 7 stands more than once",), accepted=True),
    Row(
        "10",
        "a point in two blocks",
        ("search.space=[{model: ./bert}, {model: ./bert, freeze: full}]",),
        ("search.space: 1 of 2 points mean the same as another; each is trained once",),
        accepted=True,
    ),
    Row(
        "11",
        "a grid of a million trials",
        text=space(learning_rate=THOUSAND, weight_decay=THOUSAND),
        says=(
            "search.space: 1,000,000 trials (learning_rate 1,000 × weight_decay 1,000), but search.max_trials allows "
            "1,000",
            "--set search.max_trials=1000000",
        ),
    ),
    Row(
        "11",
        "a million draws",
        ("search.algorithm=random", "search.num_trials=1000000"),
        ("search.num_trials: 1,000,000 trials (1,000,000 points × 1 seeds), but search.max_trials allows 1,000",),
    ),
    Row(
        "12",
        "an unknown policy",
        text=space(freeze=["full", "hed"]),
        says=(
            "sweep.yaml:8: search.space.0.freeze.1: 'hed' is not a freeze policy; did you mean 'head'? Known: full, "
            "embeddings, top-N, head, lora",
        ),
    ),
    Row("13", "top_12", ("search.space.0.freeze=top_12",), ("'top_12' is not a freeze policy", "as in top-2")),
    Row(
        "13",
        "top-12 of three layers",
        ("search.space.0.freeze=top-12",),
        ("model ./bert: freeze: 'top-12' is not possible for a model of 3 layers; top-1 to top-2 is allowed",),
    ),
    Row("15", "a pattern", ("search.space.0.freeze='bert.encoder.*'",), ("'bert.encoder.*' is not a freeze policy",)),
    Row(
        "16",
        "a folder that is not there",
        ("search.space.0.model=./brt",),
        ("model: ./brt: no such folder (did you mean 'bert'?); a model is a folder, a Hub id, or pkg://package/path",),
    ),
    Row("17", "pickled weights", (MINE,), ("pickled weights only (pytorch_model.bin)", "safetensors"), change=pickled),
    Row("17", "no weights", (MINE,), ("/mine: has no model.safetensors",), change=without("model.safetensors")),
    Row("18", "code of its own", (MINE,), ("config.json: auto_map asks to run code", "never done"), change=with_code),
    *(
        Row(
            "19",
            f"a model of type {kind}",
            (MINE,),
            (f"model_type '{kind}' is not supported; ", "decoder-only models, T5 and vision models are not supported"),
            change=with_config(model_type=kind),
        )
        for kind in ("llama", "t5", "vit")
    ),
    Row("19", "a decoder", (MINE,), ("is_decoder is true; only encoders",), change=with_config(is_decoder=True)),
    Row(
        "20", "no tokenizer", (MINE,), ("has no tokenizer; one of these", "vocab.txt"), change=without("tokenizer.json")
    ),
    Row(
        "20",
        "a tokenizer with more tokens than embeddings",
        (MINE,),
        ("model: ./mine: its tokenizer makes ids up to ", "but config.json has a vocab_size of 10"),
        change=small_vocabulary,
    ),
    Row("20", "a tokenizer cut off", (MINE,), ("tokenizer.json: cannot be read as JSON",), change=cut_tokenizer),
    Row("20", "a tokenizer of another kind", (MINE,), ("tokenizer.json: is not a tokenizer",), change=other_tokenizer),
    Row(
        "21",
        "max_length 514 on RoBERTa",
        ("search.space.0.model=./roberta", "training.max_length=514"),
        ("max_length: 514: ./roberta has positions for 512 tokens; set max_length to at most 512",),
    ),
    Row("21", "max_length 100000", ("training.max_length=100000",), ("max_length: 100000: ", "512 tokens")),
    Row("21", "max_length 0", ("training.max_length=0",), ("training.max_length: 0: ", "greater than or equal to 4")),
    Row(
        "21",
        "a model without positions",
        (MINE,),
        ("config.json: max_position_embeddings ('many')", "leave no position for a token"),
        change=with_config(max_position_embeddings="many"),
    ),
    Row(
        "22",
        "a batch of 0",
        ("training.per_device_train_batch_size=0",),
        ("per_device_train_batch_size: 0: ", "greater than or equal to 1"),
    ),
    Row(
        "22",
        "a batch larger than train",
        ("training.per_device_train_batch_size=4096",),
        ("a batch of 4,096 holds all 115 texts of train: an epoch is a single optimizer step",),
        accepted=True,
    ),
    Row("22", "a batch of a googol", (f"training.per_device_train_batch_size={10**100}",), ("less than 2147483648",)),
    Row("23", "0 epochs", ("training.num_train_epochs=0",), ("num_train_epochs: 0: ", "greater than or equal to 1")),
    Row("23", "1.5 epochs", ("training.num_train_epochs=1.5",), ("num_train_epochs: 1.5: ", "valid integer")),
    Row(
        "23",
        "max_steps beside epochs",
        ("training.max_steps=100",),
        ("max_steps: unknown key; use num_train_epochs (it alone says how long a trial trains)",),
    ),
    Row(
        "24",
        "warmup_ratio",
        ("training.warmup_ratio=0.1",),
        ("training.warmup_ratio: unknown key; use warmup_steps (a value below 1 is a share of all steps)",),
    ),
    *(
        Row(
            "25",
            name,
            (f"training.{name}=epoch",),
            (f"training.{name}: unknown key; leave it out: validation is scored",),
        )
        for name in ("evaluation_strategy", "eval_strategy")
    ),
    *(
        Row(
            "26",
            f"metric {name}",
            (f"training.metric_for_best_model={name}",),
            (f"metric_for_best_model: '{name}': ", "Known: accuracy, f1_macro, loss"),
        )
        for name in ("accurcy", "f1")
    ),
    Row(
        "27", "fp16", ("training.fp16=true",), ("training.fp16: unknown key; use bf16 (mixed precision is bf16 here)",)
    ),
    Row("28", "-1 GPUs", ("resources.gpus_per_trial=-1",), ("gpus_per_trial: -1: ", "greater than or equal to 0")),
    Row("28", "2.5 GPUs", ("resources.gpus_per_trial=2.5",), ("gpus_per_trial: 2.5: ", "fraction of one GPU")),
    Row("28", "true GPUs", ("resources.gpus_per_trial=true",), ("gpus_per_trial: True: must be a number",)),
    Row(
        "28",
        "hardly any GPU",
        ("resources.gpus_per_trial=1e-300",),
        ("gpus_per_trial: 1e-300: must be 0, or at least",),
    ),
    Row("28", "0.3 of a GPU, of which three fit", ("resources.gpus_per_trial=0.3",), accepted=True),
    Row("29", "a relative storage", ("storage=runs",), accepted=True),
    Row(
        "29",
        "a relative storage in a Ray job",
        ("storage=runs",),
        ("storage: 'runs' is relative, and inside a Ray job", "--set storage=/"),
        environment={"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"},
    ),
    Row(
        "29",
        "the storage of nobody",
        ("storage=~nobody-of-that-name/x",),
        ("storage: ~nobody", "cannot be a path here"),
    ),
    Row("29", "a file as storage", ("storage=reviews.csv",), ("storage: reviews.csv: cannot be written to: ", "--set")),
    Row("29", "a bucket", ("storage=s3://bucket/runs",), ("storage: 's3://bucket/runs': only a folder is there yet",)),
    Row("29", "a storage with NUL", ('storage="a\\0b"',), ("storage: 'a\\x00b': holds a NUL character",)),
    Row(
        "30",
        "a folder as store",
        ("tracking.uri=./mlruns",),
        ("tracking.uri: './mlruns': must begin with one of sqlite:",),
    ),
    Row(
        "30",
        "a database without a driver",
        ("tracking.uri=postgresql+pg8000://host/db",),
        ("tracking.uri: 'postgresql+pg8000://host/db' needs the Python package pg8000", "pip install psycopg2-binary"),
    ),
    Row("30", "a server without a host", ("tracking.uri=http://",), ("tracking.uri: 'http://' must name a host",)),
    Row(
        "32",
        "an experiment of 501 letters",
        (f"tracking.experiment={'x' * 501}",),
        ("tracking.experiment: 'xxx", "500"),
    ),
    *(
        Row(
            "33",
            f"the name {name}",
            (f"name={name}",),
            ("name: ", "must be 1 to 100 letters, digits", f"such as '{slug}'"),
        )
        for name, slug in [("../up", "up"), ('"a\\0b"', "a-b"), ('"a\\nb"', "a-b"), ("fine 🎬 film", "fine-film")]
    ),
    Row("33", "a name of nothing but an emoji", ("name=🎬",), ("name: '🎬': must be 1 to 100 letters, digits",)),
    Row(
        "33", "the name of the cache", ("name=cache",), ("name: 'cache': is what Fleetune calls something of its own",)
    ),
    Row(
        "34",
        "a password in the URI",
        text=sweep(tracking={"uri": "postgresql+psycopg2://me:hunter2@host/db"}),
        says=(
            "tracking.uri: 'postgresql+psycopg2://***@host/db': looks like a secret",
            '--set tracking.uri="$VARIABLE"',
        ),
        never=("hunter2",),
    ),
    Row(
        "34",
        "a token in a path",
        text=sweep(data={"path": f"https://hub/x.csv?token={SECRET}"}),
        says=("data.path: ", "looks like a secret", "take it from the environment"),
        never=(SECRET,),
    ),
    Row(
        "34",
        "a token under a key of its own",
        text=sweep(hf_token=SECRET),
        says=("hf_token: unknown key",),
        never=(SECRET,),
    ),
    *(
        Row("35", f"seeds {seeds}", (f"search.seeds={seeds}",), ("search.seeds", says))
        for seeds, says in [
            ("[]", "at least 1 item"),
            ("[one]", "'one': input should be a valid integer"),
            ("[1.5]", "1.5: input should be a valid integer"),
            ("[true]", "True: must be a number"),
            ("[4294967296]", "4294967296: input should be less than 4294967296"),
            ("[-1]", "-1: input should be greater than or equal to 0"),
        ]
    ),
    Row(
        "36",
        "an object of Python",
        text="name: !!python/object/apply:os.system [touch pwned]\n",
        says=("sweep.yaml:1: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed",),
    ),
    Row("37", "aliases of aliases", text=BOMB, says=("aliases expand to more than 100,000 values",)),
    Row("37", "an alias of itself", text="name: &x [*x]\n", says=("sweep.yaml:1: aliases", "contain themselves")),
    Row(
        "37",
        "brackets in brackets",
        text=f"name: {'[' * 400}{']' * 400}\n",
        says=("sweep.yaml:1: is nested too deeply",),
    ),
    Row("37", "a file of a megabyte", text="# " + "x" * 1_000_001, says=("sweep.yaml: larger than 1,000,000 bytes",)),
    Row(
        "38",
        "a variable in the file",
        text=sweep(storage="${SCRATCH}/runs"),
        says=("storage: '${SCRATCH}/runs': variables such as ${SCRATCH} are not replaced", "$SCRATCH"),
    ),
    Row("39", "an override without a value", ("training.bf16",), ("--set training.bf16: write it as key=value",)),
    Row(
        "39",
        "an override of another type",
        ("training.num_train_epochs=three",),
        ("--set training.num_train_epochs=three: training.num_train_epochs: 'three': ", "valid integer"),
    ),
    Row(
        "39",
        "an override with true",
        ("training.num_train_epochs=true",),
        ("True: must be a number, not true or false",),
    ),
    Row("39", "an override of a list of one", ("search.space.7.freeze=head",), ("is a list of 1; use 0 to 0, or *",)),
    Row(
        "39",
        "a number of many digits",
        (f"search.seeds={'9' * 5000}",),
        ("--set search.seeds=999", "999 …: search.seeds.0: inf: ", "finite"),
    ),
]
