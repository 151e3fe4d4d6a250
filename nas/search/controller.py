"""The controller of ``rl``: an LSTM that chooses one gene after another, each knowing the choices before it.

The shape is NASNet's (Zoph et al., 2018), which MnasNet (Tan et al., 2019) took over: one layer of 100 units, reading
the embedding of the previous gene's choice, and for every gene a softmax of its own; weights begin uniform within 0.1.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

UNITS = 100
WITHIN = 0.1  # the weights begin uniform between minus this and this


class Beliefs(NamedTuple):
    """What the controller thinks of rows: log-probability of each choice and entropy there, both ``(n, genes)``."""

    chosen: Tensor
    entropy: Tensor


class Controller(nn.Module):
    """A distribution over rows of genes.

    Args:
        cardinalities: Number of values of each gene.
        generator: Draws the weights.
    """

    def __init__(self, cardinalities: list[int], generator: torch.Generator):
        super().__init__()
        most = max(cardinalities)
        counts = torch.tensor(cardinalities)
        self._genes = len(cardinalities)
        self._tokens = 1 + most * torch.arange(self._genes)  # of each gene's first value; token 0 begins a row
        self._missing = torch.arange(most) >= counts[:, None]  # (genes, most)
        self.embedding = nn.Embedding(1 + most * self._genes, UNITS)
        self.lstm = nn.LSTM(UNITS, UNITS, batch_first=True)
        self.heads = nn.Parameter(torch.empty(self._genes, UNITS, most))
        self.biases = nn.Parameter(torch.empty(self._genes, most))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-WITHIN, WITHIN, generator=generator)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw rows ``(n, genes)``."""
        rows = torch.zeros(n, self._genes, dtype=torch.int64)
        token, state = torch.zeros(n, 1, dtype=torch.int64), None
        for gene in range(self._genes):
            hidden, state = self.lstm(self.embedding(token), state)
            logits = (hidden[:, 0] @ self.heads[gene] + self.biases[gene]).masked_fill(self._missing[gene], -torch.inf)
            choice = torch.multinomial(logits.softmax(1), 1, generator=generator)
            rows[:, gene : gene + 1], token = choice, self._tokens[gene] + choice
        return rows

    def believe(self, rows: Tensor) -> Beliefs:
        """Return what it thinks of rows ``(n, genes)``."""
        tokens = nn.functional.pad((self._tokens + rows)[:, :-1], (1, 0))
        hidden, _ = self.lstm(self.embedding(tokens))
        logits = torch.einsum("ngu,gum->ngm", hidden, self.heads) + self.biases
        logs = logits.masked_fill(self._missing, -torch.inf).log_softmax(2)
        chosen = logs.gather(2, rows[:, :, None])[:, :, 0]
        return Beliefs(chosen, -(logs.exp() * logs.masked_fill(self._missing, 0.0)).sum(2))
