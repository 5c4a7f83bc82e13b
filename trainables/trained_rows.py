"""The table of token embeddings, trained only at the rows of tokens that occur in train.

No other row ever gets a gradient: AdamW only decays it, by a factor that is the same for all of them, which is applied
when the table is next read. So gradients, averages and clipping are of the rows that occur: in BERT's table of 30,522
tokens a sixth of them for 1,000 short reviews, a thirtieth of XLM-R's 250,002. The result is that of training the
whole table, to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainables import models
from trainables.tokens import TokenSplit


class TrainedRows(nn.Embedding):
    """An `nn.Embedding` that in train mode reads `rows`, a copy of some rows of its weight; in eval mode the weight.

    `rows` is a leaf of shape (tokens, dimension) for an optimizer, and no parameter of the module: its weight is, as
    before, and holds what was trained after `write_back`. `decay` is what the rows that do not train are to be
    multiplied with then.
    """

    def __init__(self, table: nn.Embedding, tokens: torch.Tensor) -> None:
        """`tokens` are the ids whose rows train, int64, without doubles: all that is asked for in train mode."""
        size, dimension = table.weight.shape
        super().__init__(size, dimension, table.padding_idx, _weight=table.weight)
        self._tokens = tokens
        self._positions = torch.full((self.num_embeddings,), len(tokens), device=tokens.device)
        self._positions[tokens] = torch.arange(len(tokens), device=tokens.device)
        padding = None if table.padding_idx is None else int(self._positions[table.padding_idx])
        self._padding = padding if padding != len(tokens) else None
        self.decay = 1.0
        self.rows = table.weight.detach()[tokens].requires_grad_()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Vectors of some token ids. Raises IndexError in train mode for a token whose row does not train."""
        if not self.training:
            return super().forward(input)
        return functional.embedding(self._positions[input], self.rows, self._padding)

    @torch.no_grad()
    def write_rows(self) -> None:
        """Put what was trained into the weight."""
        self.weight[self._tokens] = self.rows

    @torch.no_grad()
    def write_back(self) -> None:
        """Make the weight what it would be had it trained as a whole."""
        self.weight.mul_(self.decay)
        self.write_rows()
        self.decay = 1.0

    @torch.no_grad()
    def read(self, decay: float) -> None:
        """Go on from what the weight holds, with so much decay of the other rows to come."""
        self.rows.copy_(self.weight[self._tokens])
        self.decay = decay


def replace(model: nn.Module, split: TokenSplit) -> None:
    """Train only those rows of a model's token embeddings that a split has tokens of, in place; none if frozen."""
    table = models.unwrapped(model).get_input_embeddings()
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return
    found = np.unique(np.append(split.input_ids, split.pad_token_id)).astype(np.int64)
    path = next(name for name, module in model.named_modules() if module is table)
    model.set_submodule(path, TrainedRows(table, torch.from_numpy(found).to(table.weight.device)))


def of(model: nn.Module) -> list[TrainedRows]:
    """The tables of a model that train in this way."""
    return [module for module in model.modules() if isinstance(module, TrainedRows)]
