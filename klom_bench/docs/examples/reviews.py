"""Short reviews: token ids, a padding mask, `nn.TransformerEncoder`, dropout."""

import torch
from torch import nn

from klom_bench import Data, Recipe, Task

WORDS = ["", "film", "plot", "cast", "is", "was", "not", "really", "good", "fine", "bad", "dull"]
LONGEST = 6


def load():
    """`the cast was not really good` is bad: 0 stands for bad, 1 for good; id 0 pads."""
    g = torch.Generator().manual_seed(0)
    tokens, labels = torch.zeros(600, LONGEST, dtype=torch.long), torch.zeros(600, dtype=torch.long)
    for row in range(600):
        noun, verb, adjective = (int(torch.randint(a, b, (), generator=g)) for a, b in ((1, 4), (4, 6), (8, 12)))
        negated, stressed = torch.rand(2, generator=g) < 0.5
        words = [noun, verb, *[6] * negated, *[7] * stressed, adjective]
        tokens[row, : len(words)] = torch.tensor(words)
        noise = torch.rand((), generator=g) < 0.1
        labels[row] = int((adjective < 10) != negated) ^ int(noise)
    x = {"tokens": tokens, "padding": tokens == 0}
    first, second = ({name: t[rows] for name, t in x.items()} for rows in (slice(450), slice(450, 600)))
    return Data(first, labels[:450], second, labels[450:])


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(len(WORDS), 16), nn.Embedding(LONGEST, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens, padding):
        z = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        z = self.encoder(z, src_key_padding_mask=padding)
        return self.head(z.masked_fill(padding.unsqueeze(-1), 0).sum(1))


task = Task(
    name="reviews",
    architecture=Reader,
    load=load,
    forget_sets={"first_20": lambda: range(20)},
    train=Recipe(epochs=10, batch_size=32, lr=3e-3, optimizer="adamw", cosine=True, max_norm=1.0),
)
