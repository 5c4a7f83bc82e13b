"""What a trial is told: training arguments under their Hugging Face names, the model, and the whole trial.

The sweep file's `training` section and the axes of `search.space` are validated by the same `TrainingArguments`,
so a value that is refused here never reaches a worker.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Metric = Literal["accuracy", "f1_macro", "loss"]
Precision = Literal["fp32", "bf16"]
Scheduler = Literal["linear", "cosine", "constant_with_warmup"]


def no_truth_value(value: Any) -> Any:
    """`true` where a number belongs is a slip, which pydantic would take for 1. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(no_truth_value)]
Number = Annotated[float, BeforeValidator(no_truth_value)]
# What counts something is never larger: NumPy and torch count in 64 bits, and what is multiplied must fit.
Positive = Annotated[Whole, Field(ge=1, lt=2**31)]
Probability = Annotated[Number, Field(ge=0, lt=1)]


def better(metric: Metric, value: float, than: float | None) -> bool:
    """Whether a value of a metric beats another; the first value always does, an equal one does not."""
    if than is None:
        return True
    return value < than if metric == "loss" else value > than


class Frozen(BaseModel):
    """Base of all configuration: immutable, unknown keys refused, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class TrainingArguments(Frozen):
    """How a trial trains: names and meanings of `transformers.TrainingArguments`, lora_* of `peft.LoraConfig`."""

    learning_rate: Annotated[Number, Field(gt=0, lt=1)] = 5e-5
    num_train_epochs: Positive = 3
    per_device_train_batch_size: Positive = 16
    per_device_eval_batch_size: Positive = 64
    gradient_accumulation_steps: Positive = 1
    max_length: Annotated[Whole, Field(ge=4, lt=2**31)] = Field(
        256, description="tokens per text, special tokens included; longer texts are cut"
    )
    weight_decay: Annotated[Number, Field(ge=0, lt=1)] = 0.01
    adam_beta1: Probability = 0.9
    adam_beta2: Probability = 0.999
    adam_epsilon: Annotated[Number, Field(gt=0)] = 1e-8
    max_grad_norm: Annotated[Number, Field(gt=0)] = 1.0
    lr_scheduler_type: Scheduler = Field("linear", description="after warm-up: to zero (linear, cosine) or constant")
    warmup_steps: Annotated[Number, Field(ge=0)] = Field(
        0.1, description="below 1: share of all steps; from 1: number of steps"
    )
    layerwise_lr_decay: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0, description="each block learns at this share of the rate of the block above it; 1: all at learning_rate"
    )
    save_steps: Positive | None = Field(
        None,
        description="for long epochs: state is also committed after every so many optimizer steps of the trial; "
        "null: after each epoch only. No result depends on it, so it is the same for all trials and may be changed "
        "when a sweep is continued. Heads that train together commit after epochs all the same, which are short, "
        "because what lies below is computed once",
    )
    bf16: bool | None = Field(None, description="null: where a probe of the hardware shows a gain")
    metric_for_best_model: Metric = Field(
        "accuracy", description="read on validation, picks the epoch and ranks the trials"
    )
    lora_r: Positive = 8
    lora_alpha: Positive = 16
    lora_dropout: Probability = 0.05

    def optimizer_steps(self, texts: int) -> int:
        """Optimizer steps of one epoch; a last, smaller step counts."""
        return math.ceil(texts / (self.per_device_train_batch_size * self.gradient_accumulation_steps))

    def meaning(self, freeze: str) -> dict[str, Any]:
        """What decides the result under a freeze policy, beside the precision, which `bf16` is in.

        LoRA's arguments count under LoRA only; `save_steps` decides nothing.
        """
        arguments = self.model_dump(exclude={"bf16", "save_steps"})
        if freeze != "lora":
            arguments = {key: value for key, value in arguments.items() if not key.startswith("lora_")}
        return arguments

    def without_optimizer(self) -> dict[str, Any]:
        """All but what the optimizer alone reads.

        Trials of one model, policy and seed that agree in these see the same texts, in the same batches, through the
        same dropout.
        """
        return self.model_dump(exclude=set(_OPTIMIZER))


_OPTIMIZER = (
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "lr_scheduler_type",
    "warmup_steps",
    "layerwise_lr_decay",
)


class ModelSpec(Frozen):
    """A pretrained encoder, resolved by the driver: workers get a local path, never a Hub id or `pkg://`."""

    name: str = Field(description="as the user wrote it; shown in the leaderboard")
    path: str = Field(description="local folder with config.json, *.safetensors and tokenizer files")
    sha256: str = Field(description="over all files of the folder that decide the weights and tokens")
    tokenizer_sha256: str
    model_type: str
    num_hidden_layers: Positive = Field(description="layers used: the first N of the model's own")
    hidden_size: Positive


class TrialSpec(Frozen):
    """One trial, complete: `run_trial` needs nothing else, with or without Ray."""

    trial_id: str
    point_id: str
    seed: int
    model: ModelSpec
    freeze: str
    training: TrainingArguments
    labels: tuple[str, ...]
    precision: Precision
    data: str = Field(
        description="folder with train.parquet, validation.parquet, test.parquet (row, text, text_pair, label)"
    )
    data_fingerprint: str
    cache: str = Field(description="folder of tokens shared by all trials")
    directory: str = Field(description="this trial's folder in the sweep directory")
    num_threads: Positive = 1
