"""Short reviews: token ids with a padding mask, `nn.TransformerEncoder`, dropout."""

import torch
from torch import nn

from klom_bench import Data, Recipe, Task

NOUNS, GOOD, BAD = ["film", "plot", "cast"], ["good", "fine"], ["bad", "dull"]
WORDS = ["", *NOUNS, "is", "was", "not", "really", *GOOD, *BAD]
LONGEST = 5


def review(g):
    """`cast was not really good` is bad: its tokens, and 1 for good."""

    def one_of(words):
        return words[int(torch.randint(len(words), (), generator=g))]

    negated, stressed = (torch.rand(2, generator=g) < 0.5).tolist()
    adjective = one_of(GOOD + BAD)
    words = [one_of(NOUNS), one_of(["is", "was"]), *["not"] * negated, *["really"] * stressed]
    ids = [WORDS.index(word) for word in [*words, adjective]]
    wrong = float(torch.rand((), generator=g)) < 0.1
    return ids + [0] * (LONGEST - len(ids)), ((adjective in GOOD) != negated) != wrong


def load():
    g = torch.Generator().manual_seed(0)
    tokens, labels = map(torch.tensor, zip(*[review(g) for _ in range(420)], strict=True))
    x = {"tokens": tokens, "padding": tokens == 0}  # the model gets them by these names
    train, val = (
        {name: t[rows] for name, t in x.items()} for rows in (slice(300), slice(300, 420))
    )
    return Data(train, labels[:300].long(), val, labels[300:].long())


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(len(WORDS), 16), nn.Embedding(LONGEST, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens, padding):
        z = self.words(tokens) + self.places(torch.arange(LONGEST, device=tokens.device))
        z = self.encoder(z, src_key_padding_mask=padding)
        return self.head(z.masked_fill(padding.unsqueeze(-1), 0).sum(1))


task = Task(
    name="reviews",
    architecture=Reader,
    load=load,
    forget_sets={"first_20": lambda: range(20)},
    train=Recipe(epochs=8, batch_size=32, lr=5e-3, optimizer="adamw", cosine=True, max_norm=1.0),
    hyperparameters={
        "lotus": {"unseen": 0.78},  # the accuracy on unseen points
        "dm_direct": {"subsets": 20},  # models on random halves: 2,000 are better
        "dmm": {"subsets": 20},
    },
    pack=5,
)
