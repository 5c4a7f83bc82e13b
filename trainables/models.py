"""All that Fleetune knows of architectures: where embeddings, layers and head are, as an explicit list of families.

`describe` reads files only, so that the driver refuses a model before torch is imported; `load_model` and `parts`
run on a worker.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainables.arguments import ModelSpec
from trainables.errors import BadInput, nearest
from trainables.model_folder import model_hash as model_hash
from trainables.model_folder import read_config, tokenizer_files, weight_files
from trainables.seeds import derived_seed

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Pooling = Literal["first", "mean"]


@dataclass(frozen=True)
class Family:
    """One architecture. Paths are dotted, from its `*ForSequenceClassification` model.

    A path that a variant lacks (ELECTRA without a projection) is skipped; `parts` refuses a model that holds a
    parameter outside all paths. What every layer reads (relative positions, projections) is part of the
    embeddings; all that comes after the last layer is the head. `encoder` is the module whose output is the last
    hidden state; `final_norm` is what lies between the last layer and that, and trains with the head. A family that
    is not `padding_free` adds a bias of its own to its attention. One with `position_types` once had several kinds of
    positions to choose from, of which transformers has kept the absolute ones.
    """

    model_type: str
    embeddings: tuple[str, ...]
    encoder: str
    layers: str
    head: tuple[str, ...]
    modules_to_save: tuple[str, ...]
    lora_target_modules: tuple[str, ...] = ("query", "value")
    output: str = "classifier"
    final_norm: str | None = None
    shared_layers: bool = False
    padding_free: bool = True
    positions_after_padding: bool = False
    position_types: bool = False
    layers_key: str = "num_hidden_layers"
    hidden_key: str = "hidden_size"


def _roberta(model_type: str) -> Family:
    return Family(
        model_type,
        embeddings=("roberta.embeddings",),
        encoder="roberta.encoder",
        layers="roberta.encoder.layer",
        head=("classifier",),
        modules_to_save=("classifier",),
        output="classifier.out_proj",
        positions_after_padding=True,
        position_types=True,
    )


def _deberta(model_type: str, lora_target_modules: tuple[str, ...]) -> Family:
    return Family(
        model_type,
        embeddings=(
            "deberta.embeddings",
            "deberta.encoder.rel_embeddings",
            "deberta.encoder.LayerNorm",
            "deberta.encoder.conv",
        ),
        encoder="deberta",
        layers="deberta.encoder.layer",
        head=("pooler", "dropout", "classifier"),
        modules_to_save=("pooler", "classifier"),
        lora_target_modules=lora_target_modules,
        padding_free=False,
    )


_ROWS = (
    Family(
        "bert",
        embeddings=("bert.embeddings",),
        encoder="bert.encoder",
        layers="bert.encoder.layer",
        head=("bert.pooler", "dropout", "classifier"),
        modules_to_save=("pooler", "classifier"),
        position_types=True,
    ),
    Family(
        "distilbert",
        embeddings=("distilbert.embeddings",),
        encoder="distilbert.transformer",
        layers="distilbert.transformer.layer",
        head=("pre_classifier", "dropout", "classifier"),
        modules_to_save=("pre_classifier", "classifier"),
        lora_target_modules=("q_lin", "v_lin"),
        layers_key="n_layers",
        hidden_key="dim",
    ),
    _roberta("roberta"),
    _roberta("xlm-roberta"),
    _roberta("camembert"),
    Family(
        "albert",
        embeddings=("albert.embeddings", "albert.encoder.embedding_hidden_mapping_in"),
        encoder="albert.encoder",
        layers="albert.encoder.albert_layer_groups",
        head=("albert.pooler", "albert.pooler_activation", "dropout", "classifier"),
        modules_to_save=("pooler", "classifier"),
        shared_layers=True,
        position_types=True,
    ),
    Family(
        "electra",
        embeddings=("electra.embeddings", "electra.embeddings_project"),
        encoder="electra.encoder",
        layers="electra.encoder.layer",
        head=("classifier",),
        modules_to_save=("classifier",),
        output="classifier.out_proj",
        position_types=True,
    ),
    Family(
        "mpnet",
        embeddings=("mpnet.embeddings", "mpnet.encoder.relative_attention_bias"),
        encoder="mpnet.encoder",
        layers="mpnet.encoder.layer",
        head=("classifier",),
        modules_to_save=("classifier",),
        lora_target_modules=("attn.q", "attn.v"),
        output="classifier.out_proj",
        padding_free=False,
        positions_after_padding=True,
    ),
    _deberta("deberta", ("in_proj",)),
    _deberta("deberta-v2", ("query_proj", "value_proj")),
    Family(
        "modernbert",
        embeddings=("model.embeddings",),
        encoder="model",
        layers="model.layers",
        head=("model.final_norm", "head", "drop", "classifier"),
        modules_to_save=("final_norm", "head", "classifier"),
        lora_target_modules=("Wqkv",),
        final_norm="model.final_norm",
    ),
)
FAMILIES: Mapping[str, Family] = {family.model_type: family for family in _ROWS}


@dataclass(frozen=True)
class ModelDescription:
    """What config.json says of an encoder. `max_positions` is in tokens; None: relative positions, no limit."""

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    max_positions: int | None
    shared_layers: bool
    padding_free: bool

    def with_layers(self, num_hidden_layers: int) -> ModelDescription:
        """The same model cut to its first layers."""
        return replace(self, num_hidden_layers=num_hidden_layers)


@dataclass(frozen=True)
class Parts:
    """A model's modules by block. All of `embeddings` are one block, all of `head` are one, each layer is one."""

    embeddings: list[nn.Module]
    layers: list[nn.Module]
    head: list[nn.Module]

    def blocks(self) -> dict[str, list[nn.Module]]:
        """Modules of each block, from the input upward: embeddings, layer-0, layer-1, …, head."""
        layers = {f"layer-{index}": [layer] for index, layer in enumerate(self.layers)}
        return {"embeddings": self.embeddings, **layers, "head": self.head}


def find_family(model_type: object, where: Path) -> Family:
    """The family of a config.json's model_type; raise BadInput naming the supported ones where there is none."""
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    raise BadInput(
        f"{where}: model_type {model_type!r} is not supported; {nearest(str(model_type), FAMILIES)} "
        "(encoders of text only: decoder-only models, T5 and vision models are not supported)"
    )


def describe(folder: Path) -> ModelDescription:
    """Read a model folder without importing torch.

    Raises BadInput where it is no supported encoder, needs remote code, or lacks safetensors or tokenizer files.
    """
    config = read_config(folder)
    family = find_family(config.get("model_type"), folder / "config.json")
    _refuse_silent_changes(folder, config, family)
    weight_files(folder)
    tokenizer_files(folder)
    return ModelDescription(
        model_type=family.model_type,
        num_hidden_layers=_count(config, family.layers_key, folder),
        hidden_size=_count(config, family.hidden_key, folder),
        max_positions=_positions(config, folder),
        shared_layers=family.shared_layers,
        padding_free=family.padding_free,
    )


def max_positions(config: Mapping[str, Any]) -> int | None:
    """Longest text, in tokens, that a supported config.json allows; None where positions are relative only.

    RoBERTa and MPNet count positions from the padding index + 1, so 514 embeddings serve 512 tokens.
    """
    family = FAMILIES[config["model_type"]]
    if config.get("position_biased_input") is False:
        return None
    positions = int(config.get("max_position_embeddings", 8192 if family.model_type == "modernbert" else 512))
    padding = config.get("pad_token_id")
    return positions - (1 if padding is None else int(padding)) - 1 if family.positions_after_padding else positions


def parts(model: nn.Module) -> Parts:
    """Split a classification model, wrapped by peft or not, into blocks.

    Raises BadInput where a parameter belongs to no block, or to two.
    """
    base = unwrapped(model)
    family = FAMILIES[base.config.model_type]
    found = Parts(
        embeddings=_modules(base, family.embeddings),
        layers=layers(base),
        head=_modules(base, family.head),
    )
    _refuse_stray_parameters(base, found)
    return found


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a peft model, adapters included; any other model itself."""
    inner = getattr(model, "get_base_model", None)
    return model if inner is None else inner()


def load_model(spec: ModelSpec, labels: Sequence[str], seed: int) -> PreTrainedModel:
    """Load an encoder with a new output layer for `labels`, in float32, cut to its first layers, in eval mode.

    What the checkpoint has of the head (BERT's pooler) is kept; the output layer, and all of the head that the
    checkpoint lacks, are drawn from `seed` and nothing else. The global random state stays as it was.
    Raises BadInput where the weights cannot be read, do not fill the encoder, or hold more than its layers have.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    family = find_family(spec.model_type, Path(spec.path))
    with quiet(), seeded(seed, "head"):
        try:
            model, report = AutoModelForSequenceClassification.from_pretrained(
                spec.path,
                config=_classification_config(spec, labels),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **loading_arguments(family),
            )
        except SafetensorError as error:
            raise BadInput(f"{spec.path}: its safetensors weights are cut off or damaged ({error})") from None
        drawn = {*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])}
        _refuse_missing_encoder(spec, model, drawn)
        _refuse_unused_layers(spec, model, report["unexpected_keys"])
        if f"{family.output}.weight" not in drawn:
            _draw_output(model, family)
    return model


def loading_arguments(family: Family) -> dict[str, Any]:
    """Arguments of every `from_pretrained`: local safetensors only, no remote code, float32."""
    import torch

    return {
        "use_safetensors": True,
        "trust_remote_code": False,
        "local_files_only": True,
        "attn_implementation": attention_implementation(family),
        "dtype": torch.float32,
    }


def attention_implementation(family: Family) -> str:
    """What transformers is to call for attention: ours, or the model's own where it adds a bias (slow, but right)."""
    from trainables import attention

    return attention.register() if family.padding_free else "eager"


def is_padding_free(model: nn.Module) -> bool:
    """Whether a model takes texts end to end in one row."""
    return FAMILIES[unwrapped(model).config.model_type].padding_free


def encoder(model: nn.Module) -> nn.Module:
    """The module whose output holds the last hidden state, which the head reads."""
    base = unwrapped(model)
    return base.get_submodule(FAMILIES[base.config.model_type].encoder)


def layers(model: nn.Module) -> list[nn.Module]:
    """The layers, from the input upward; cheap, unlike `parts`, which checks every parameter."""
    base = unwrapped(model)
    return list(base.get_submodule(FAMILIES[base.config.model_type].layers).children())


def final_norm(model: nn.Module) -> nn.Module | None:
    """What the last layer's output goes through before it is the last hidden state, if anything."""
    base = unwrapped(model)
    path = FAMILIES[base.config.model_type].final_norm
    return None if path is None else base.get_submodule(path)


def unchanged(model: nn.Module) -> Callable[..., Any]:
    """A `forward` for a layer that changes nothing and returns what this family's layers return."""
    # families with a bias of their own return (hidden states, attention weights)
    if is_padding_free(model):
        return lambda hidden, *_, **__: hidden
    return lambda hidden, *_, **__: (hidden, None)


def pooling(model: nn.Module) -> Pooling:
    """What the head reads of a text: its first token, or the mean over its tokens (a choice that ModernBERT has)."""
    found: Pooling = "mean" if getattr(unwrapped(model).config, "classifier_pooling", "cls") == "mean" else "first"
    return found


def head_size(model: nn.Module) -> int:
    """The size of the vectors that an attention head compares."""
    config = unwrapped(model).config
    return int(config.hidden_size // config.num_attention_heads)


def has_window(model: nn.Module) -> bool:
    """Whether some layers look at near tokens alone, as most of ModernBERT's do."""
    return "sliding_attention" in (getattr(unwrapped(model).config, "layer_types", None) or ())


def first_position(model: nn.Module) -> int:
    """The position id of a text's first token: RoBERTa counts from the padding index + 1, and only other tokens."""
    config = unwrapped(model).config
    return config.pad_token_id + 1 if FAMILIES[config.model_type].positions_after_padding else 0


@contextlib.contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Draw from a seed of its own for `purpose` inside the block; the CPU's random state is put back after it."""
    import torch

    state = torch.default_generator.get_state()
    # torch.manual_seed would also seed the accelerators, whose state is not ours to change
    torch.default_generator.manual_seed(derived_seed(seed, purpose))
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and load reports inside the block; what they tell is checked instead."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _refuse_silent_changes(folder: Path, config: Mapping[str, Any], family: Family) -> None:
    """Transformers follows each of these without a word: weights that no hash covers, attention one way only, or
    positions that it no longer has, whose weights it leaves out.
    """
    if (folder / "adapter_config.json").exists():
        raise BadInput(
            f"{folder}: holds adapter_config.json, and its adapter would be loaded over the weights; "
            "merge it (peft's merge_and_unload), save the whole model to a new folder and name that"
        )
    if config.get("transformers_weights"):
        raise BadInput(
            f"{folder / 'config.json'}: transformers_weights is {config['transformers_weights']!r}; "
            "weights must be in model.safetensors or its shards"
        )
    if config.get("is_decoder"):
        raise BadInput(
            f"{folder / 'config.json'}: is_decoder is true; only encoders, which read both ways, are supported"
        )
    if family.position_types and config.get("position_embedding_type", "absolute") not in ("absolute", None):
        raise BadInput(
            f"{folder / 'config.json'}: position_embedding_type is {config['position_embedding_type']!r}, which "
            "transformers no longer implements (it would train without these positions); only 'absolute' is supported"
        )


def _count(config: Mapping[str, Any], key: str, folder: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadInput(f"{folder / 'config.json'}: {key} is {value!r}; it must be a whole number from 1")
    return value


def _positions(config: Mapping[str, Any], folder: Path) -> int | None:
    try:
        found = max_positions(config)
    except (TypeError, ValueError, OverflowError):
        found = 0
    if found is not None and found < 1:
        raise BadInput(
            f"{folder / 'config.json'}: max_position_embeddings ({config.get('max_position_embeddings')!r}) and "
            f"pad_token_id ({config.get('pad_token_id')!r}) leave no position for a token"
        )
    return found


def _modules(base: nn.Module, paths: Sequence[str]) -> list[nn.Module]:
    present = dict(base.named_modules(remove_duplicate=False))
    return [present[path] for path in paths if path in present]


def _refuse_stray_parameters(base: PreTrainedModel, found: Parts) -> None:
    owners: dict[int, int] = {}
    for modules in found.blocks().values():
        for parameter in {id(parameter) for module in modules for parameter in module.parameters()}:
            owners[parameter] = owners.get(parameter, 0) + 1
    stray = [name for name, parameter in base.named_parameters() if owners.get(id(parameter)) != 1]
    if stray:
        raise BadInput(
            f"this variant of {base.config.model_type} is not supported: {', '.join(stray[:5])} "
            f"({len(stray)} in all) belong to none or several of embeddings, layers and head"
        )


def _classification_config(spec: ModelSpec, labels: Sequence[str]) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        spec.path, num_hidden_layers=spec.num_hidden_layers, local_files_only=True, trust_remote_code=False
    )
    if getattr(config, "layer_types", None):
        # ModernBERT lists a kind of attention per layer; a cut model with the whole list cannot be saved
        config.layer_types = config.layer_types[: spec.num_hidden_layers]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    # a base that was a multi-label or regression model would otherwise give sigmoids in `pipeline`
    config.problem_type = "single_label_classification"
    return config


def _refuse_missing_encoder(spec: ModelSpec, model: PreTrainedModel, drawn: set[str]) -> None:
    """Transformers only warns where weights are missing, and would train an encoder of random numbers."""
    head = {id(parameter) for module in parts(model).head for parameter in module.parameters()}
    lost = [name for name, parameter in model.named_parameters() if name in drawn and id(parameter) not in head]
    if lost:
        raise BadInput(
            f"{spec.path}: its safetensors weights do not fill the encoder that config.json describes: "
            f"{', '.join(lost[:3])} ({len(lost)} in all) are missing or of another shape"
        )


def _refuse_unused_layers(spec: ModelSpec, model: PreTrainedModel, unused: Iterable[str]) -> None:
    """Transformers drops what it has no place for: fine for heads of pretraining and cut layers, not inside a layer."""
    # Checkpoints of an encoder alone have no base in front.
    base, _, path = FAMILIES[spec.model_type].layers.partition(".")
    kept = re.compile(rf"(?:{re.escape(base)}\.)?{re.escape(path)}\.(\d+)\.")
    found = sorted(key for key in unused if (layer := kept.match(key)) and int(layer[1]) < len(layers(model)))
    if found:
        raise BadInput(
            f"{spec.path}: its safetensors weights hold parts of layers that transformers does not have for this "
            f"config.json, and would leave out: {', '.join(found[:3])} ({len(found)} in all)"
        )


def _draw_output(model: PreTrainedModel, family: Family) -> None:
    """A checkpoint that was a classifier has an output layer for other labels, which must not enter."""
    import torch

    output: Any = model.get_submodule(family.output)
    torch.nn.init.normal_(output.weight, std=getattr(model.config, "initializer_range", 0.02))
    torch.nn.init.zeros_(output.bias)
