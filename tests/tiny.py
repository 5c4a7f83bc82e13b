"""Tiny real models: random encoders of every family with a real WordPiece tokenizer, built offline in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from trainables import models
from trainables.arguments import ModelSpec

SPECIALS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
_WORDS = """
the a an and or but not no nor so if then than that this these those it its he she they we you i me him her them us my
your his our their who what which when where why how all any both each few more most other some such only own same too
very can will just should now is are was were be been being have has had do does did to of in on at by for with about
against between into through during before after above below from up down out off over under again further once here
there as until while because good bad great fine nice poor best worst better worse love hate like enjoy bore boring
funny sad happy dull bright fresh rotten slow fast long short new old big small film movie story plot actor actress
scene script director cast music end start time year day life world man woman people work game team player win loss
goal market stock price bank money oil company share profit science space computer software phone network research
data test police war peace country city state president minister law court vote news report sport business one two
three four five first last next never always often ever still even well much many make made take took see saw look
think know feel felt find found give gave want need try tell told ask say said go went come came get got ##s ##ed
##ing ##er ##est ##ly ##y ##al ##ion ##ness ##ful ##less ##able un re pre dis
"""
_MASKED_LM = {"distilbert", "roberta", "xlm-roberta", "camembert", "mpnet", "deberta", "deberta-v2", "modernbert"}
_TOKEN_TYPES = {"bert", "albert", "electra"}
_RELATIVE: dict[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_EXTRA: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
    "xlm-roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
    "camembert": {"max_position_embeddings": 514, "type_vocab_size": 1},
    "mpnet": {"max_position_embeddings": 514},
    "deberta": _RELATIVE,
    "deberta-v2": {
        **_RELATIVE,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "conv_kernel_size": 3,
    },
    "modernbert": {"max_position_embeddings": 8192, "local_attention": 16},
}


def vocabulary() -> list[str]:
    """Specials, letters and digits alone and as continuations, and common words and endings."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    single = [*letters, *(f"##{letter}" for letter in letters), *".,!?'-:;\"()"]
    return list(dict.fromkeys([*SPECIALS, *single, *_WORDS.split()]))


def tiny_model(
    model_type: str, folder: Path, num_hidden_layers: int = 3, hidden: int = 32, seed: int = 0, **overrides: Any
) -> Path:
    """Write a random encoder as the Hub has them, without a classification head, with its tokenizer.

    `overrides` go into its config. Returns `folder`.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    arguments = {
        "vocab_size": len(vocabulary()),
        "hidden_size": hidden,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 512,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "cls_token_id": 0,
        "sep_token_id": 2,
    }
    if model_type == "distilbert":
        names = {"hidden_size": "dim", "intermediate_size": "hidden_dim"}
        arguments = {names.get(key, key): value for key, value in arguments.items()}
    config = AutoConfig.for_model(model_type, **(arguments | _EXTRA.get(model_type, {}) | overrides))
    build = AutoModelForMaskedLM if model_type in _MASKED_LM else AutoModel
    with models.quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build.from_config(config).save_pretrained(folder)
        tiny_tokenizer(model_type).save_pretrained(folder)
    return folder


def tiny_tokenizer(model_type: str = "bert") -> Any:
    """A lower-casing WordPiece tokenizer: one text as [CLS] … [SEP], a pair as [CLS] … [SEP] … [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {token: index for index, token in enumerate(vocabulary())}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))  # noqa: S106
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    inputs = ["input_ids", *(["token_type_ids"] if model_type in _TOKEN_TYPES else []), "attention_mask"]
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIALS}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, model_max_length=512, **names)


def tiny_spec(folder: Path, num_hidden_layers: int | None = None, name: str = "tiny") -> ModelSpec:
    """What the driver makes of a model folder."""
    about = models.describe(folder)
    sha256, tokenizer_sha256 = models.model_hash(folder)
    return ModelSpec(
        name=name,
        path=str(folder),
        sha256=sha256,
        tokenizer_sha256=tokenizer_sha256,
        model_type=about.model_type,
        num_hidden_layers=num_hidden_layers or about.num_hidden_layers,
        hidden_size=about.hidden_size,
    )


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change keys of a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder
