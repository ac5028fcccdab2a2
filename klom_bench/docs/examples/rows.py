"""Handwriting read row by row: a GRU over eight rows of eight pixels."""

from dataclasses import replace

from torch import nn

from klom_bench import Recipe, Task
from klom_bench.tasks.digits import DIGITS


def load():
    data = DIGITS.data
    rows = [x.view(-1, 8, 8) for x in (data.x_train[:400], data.x_val)]
    return replace(data, x_train=rows[0], y_train=data.y_train[:400], x_val=rows[1])


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 24, batch_first=True)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        _, last = self.gru(x)
        return self.head(last[-1])


task = Task(
    name="rows",
    architecture=Rows,
    load=load,
    forget_sets={"first_20": lambda: range(20)},
    train=Recipe(epochs=15, batch_size=32, lr=0.01, optimizer="adamw"),
)
