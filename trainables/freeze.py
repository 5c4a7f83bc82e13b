"""Freeze policies: how much of a model trains. The head trains under every policy.

A policy is data: one row of POLICIES. Importing this file imports neither torch nor peft, so that the driver
refuses a policy at once.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import xxhash

from trainables import models
from trainables.arguments import TrainingArguments
from trainables.errors import BadInput, nearest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_TOP = "top-N"
_HASHED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Policy:
    """What trains beside the head: the embeddings, the last `layers` layers (None: all), adapters in every layer."""

    name: str
    embeddings: bool = False
    layers: int | None = 0
    adapters: bool = False


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("full", embeddings=True, layers=None),
        Policy("embeddings", layers=None),
        Policy(_TOP),
        Policy("head"),
        Policy("lora", adapters=True),
    )
}


class Encoder(Protocol):
    """What `check` reads of a model: a ModelDescription, a ModelSpec or a transformers config."""

    @property
    def model_type(self) -> str: ...
    @property
    def num_hidden_layers(self) -> int: ...


def parse(name: str) -> Policy:
    """Read the name of a policy: `full`, `embeddings`, `top-2`, `head` or `lora`. Raises BadInput."""
    depth = re.fullmatch(r"top-(0|[1-9]\d{0,8})", str(name))
    if depth:
        return replace(POLICIES[_TOP], name=name, layers=int(depth[1]))
    if name not in POLICIES or name == _TOP:
        hint = f"freeze: {name!r} is not a freeze policy; {nearest(name, POLICIES)}"
        raise BadInput(f"{hint} (N is a number of layers, as in top-2)")
    return POLICIES[name]


def check(name: str, encoder: Encoder) -> Policy:
    """Parse a policy and refuse it where it has no meaning for a model. Needs no torch. Raises BadInput."""
    policy = parse(name)
    if policy.layers is None or not name.startswith("top-"):
        return policy
    layers = encoder.num_hidden_layers
    if models.FAMILIES[encoder.model_type].shared_layers:
        others = ", ".join(known for known in POLICIES if known != _TOP)
        raise BadInput(
            f"freeze: {name!r} has no meaning for {encoder.model_type}, whose layers all share one set of weights; "
            f"use one of {others}"
        )
    if not 1 <= policy.layers < layers:
        allowed = f"top-1 to top-{layers - 1}" if layers > 1 else "no top-N"
        raise BadInput(
            f"freeze: {name!r} is not possible for a model of {layers} layers; {allowed} is allowed "
            "(head trains no layer, embeddings trains all)"
        )
    return policy


def apply(model: PreTrainedModel, name: str, training: TrainingArguments, seed: int) -> nn.Module:
    """Freeze what the policy freezes; for `lora`, return the model wrapped with adapters drawn from `seed`.

    LoRA as in Hu et al. 2021 (arXiv:2106.09685), by peft: adapters at the query and value projections, and the
    whole head as a trained copy. Raises BadInput as `check` does.
    """
    policy = check(name, model.config)
    if policy.adapters:
        return _with_adapters(model, training, seed)
    parts = models.parts(model)
    model.requires_grad_(False)
    first = 0 if policy.layers is None else len(parts.layers) - policy.layers
    for module in (*(parts.embeddings if policy.embeddings else ()), *parts.layers[first:], *parts.head):
        module.requires_grad_(True)
    return model


def trained_layers(name: str, num_hidden_layers: int) -> int:
    """How many layers a backward pass runs through: those that train or hold adapters. Raises BadInput."""
    policy = parse(name)
    return num_hidden_layers if policy.adapters or policy.layers is None else policy.layers


def frozen_layers(name: str, layers: int) -> int | None:
    """How many of a model's `layers` lie below everything that trains; None where the embeddings or adapters do.

    Raises BadInput.
    """
    policy = parse(name)
    if policy.embeddings or policy.adapters:
        return None
    return 0 if policy.layers is None else layers - policy.layers


def set_train_mode(model: nn.Module) -> None:
    """Put each block that holds a trainable parameter in train mode, all others in eval mode, without dropout."""
    model.eval()
    for block in models.parts(model).blocks().values():
        if any(parameter.requires_grad for module in block for parameter in module.parameters()):
            for module in block:
                module.train()


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable and total parameters. The unused original of a head that peft copied is not counted."""
    used = [parameter for name, parameter in model.named_parameters() if ".original_module." not in name]
    return sum(parameter.numel() for parameter in used if parameter.requires_grad), sum(p.numel() for p in used)


def frozen_hash(model: nn.Module) -> str:
    """Hash of names and bytes of all frozen parameters: equal before and after training.

    Against accidents, not forgers: XXH3 takes a sixth of the time of SHA-256, which was a third of an empty trial.
    """
    digest = xxhash.xxh3_128()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            digest.update(name.encode() + b"\0")
            # In parts, because a table of embeddings may have a gigabyte that need not be copied at once.
            for part in parameter.detach().reshape(-1).split(_HASHED_AT_ONCE):
                digest.update(part.cpu().numpy())
    return digest.hexdigest()


def _with_adapters(model: PreTrainedModel, training: TrainingArguments, seed: int) -> nn.Module:
    from peft import LoraConfig, TaskType, get_peft_model

    family = models.FAMILIES[model.config.model_type]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=training.lora_r,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules=list(family.lora_target_modules),
        modules_to_save=list(family.modules_to_save),
    )
    with models.seeded(seed, "adapters"), warnings.catch_warnings():
        # peft asks for an attribute that transformers has renamed; nothing a user could act on
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return get_peft_model(model, config)
