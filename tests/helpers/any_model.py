"""Models of all kinds, each with inputs and labels that it takes."""

from types import SimpleNamespace

import torch
from torch import nn

G = torch.Generator().manual_seed(0)
POINTS = 12
X = torch.randn(POINTS, 24, generator=G)
Y = torch.arange(POINTS) % 3
TOKENS = torch.randint(1, 20, (POINTS, 6), generator=G)
PADDING = torch.arange(6).expand(POINTS, 6) >= 2 + torch.arange(POINTS).unsqueeze(1) % 5


class Recurrent(nn.Module):
    def __init__(self, kind, **more):
        super().__init__()
        self.layer, self.last = kind(6, 8, batch_first=True, **more), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.layer(x.view(-1, 4, 6))[0][:, -1])


class Encoder(nn.Module):
    """Token ids and a mask by keyword; an object with logits, as of many libraries."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, tokens, padding):
        z = self.layers(self.words(tokens), src_key_padding_mask=padding)
        return SimpleNamespace(logits=self.head(z.masked_fill(padding.unsqueeze(-1), 0).sum(1)))


class Tied(nn.Module):
    """The embedding is the last layer, too."""

    def __init__(self):
        super().__init__()
        self.words, self.last = nn.Embedding(3, 24), nn.Linear(24, 3, bias=False)
        self.last.weight = self.words.weight

    def forward(self, x):
        return self.last(x + self.words.weight.sum(0))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(24, 3), nn.Embedding(20, 3)

    def forward(self, x, tokens):
        return self.a(x) + self.b(tokens).mean(1)


def frozen():
    model = nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))
    model[0].requires_grad_(False)
    return model


def mixing():
    """What has no parameters may still look at the whole batch."""
    norm = nn.BatchNorm1d(8, affine=False, track_running_stats=False)
    return nn.Sequential(nn.Linear(24, 8), norm, nn.Linear(8, 3))


def mixing_first():
    norm = nn.BatchNorm1d(24, affine=False, track_running_stats=False)
    return nn.Sequential(norm, nn.Linear(24, 3))


def hooked():
    model = nn.Sequential(nn.Linear(24, 8), nn.Linear(8, 3))
    model[0].register_forward_hook(lambda module, args, z: z.tanh())
    return model


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 6)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.LayerNorm(96),
        nn.Linear(96, 3),
    )


WORDS = {"tokens": TOKENS, "padding": PADDING}
KINDS = {
    "GRU": (lambda: Recurrent(nn.GRU), X),
    "LSTM of two layers": (lambda: Recurrent(nn.LSTM, num_layers=2), X),
    "encoder": (Encoder, WORDS),
    "tied": (Tied, X),
    "frozen": (frozen, X),
    "mixing": (mixing, X),
    "mixing first": (mixing_first, X),
    "hooked": (hooked, X),
    "conv": (conv, X),
    "two inputs": (TwoInputs, (X, TOKENS)),
}
DROPPING = {
    "GRU": (lambda: Recurrent(nn.GRU, num_layers=2, dropout=0.5), X),
    "encoder": (lambda: Encoder(0.3), WORDS),
}
"""Those that draw from torch's global generator."""
