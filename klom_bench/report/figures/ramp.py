"""What methods cost, as colours."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from klom_bench.report.figures.axes import STEPS, linear_ticks, percent
from klom_bench.report.figures.canvas import RAMP, SMALL

UNKNOWN = (0.6, 0.6, 0.6, 1.0)


@dataclass(frozen=True)
class Ramp:
    """From the lowest to the highest cost, logarithmic where that is more than a decade."""

    low: float
    high: float

    @property
    def norm(self) -> Normalize:
        """Costs as numbers from 0 to 1."""
        wide = self.high > 10 * self.low
        return LogNorm(self.low, self.high) if wide else Normalize(0.0, self.high or 1.0)

    def colours(self, costs: Sequence[float]) -> list[tuple[float, ...]]:
        """RGBA of each; grey where it is not known."""
        known = np.clip(np.asarray(costs, dtype=float), self.low, self.high)
        found = colormaps[RAMP](self.norm(np.nan_to_num(known, nan=self.low)))
        return [
            UNKNOWN if math.isnan(cost) else tuple(map(float, rgba))
            for cost, rgba in zip(costs, found, strict=True)
        ]

    def bar(self, figure: Figure, axes: Axes) -> None:
        """What colours mean, right of the axes; nothing where no cost is known."""
        if not self.high:
            return
        width, box = figure.get_size_inches()[0], axes.get_position()
        place = box.x1 + 0.1 / width, box.y0 + 0.1 * box.height, 0.09 / width, 0.8 * box.height
        beside = figure.add_axes(place)
        shades = np.linspace(0, 1, 64)[:, None]
        beside.imshow(shades, RAMP, origin="lower", aspect="auto", extent=(0, 1, 0, 1))
        beside.set_yticks(self.norm(self._ticks), [percent(tick) for tick in self._ticks])
        beside.set_xticks([])
        beside.yaxis.tick_right()
        beside.tick_params(length=2)
        beside.set_title("cost", fontsize=SMALL, pad=4)

    @property
    def _ticks(self) -> list[float]:
        """Round costs, at most nine."""
        if not isinstance(self.norm, LogNorm):
            return linear_ticks(self.high)
        ticks: list[float] = []
        for steps in (STEPS, (1,)):
            every = [step * 10.0**k for k in range(-9, 6) for step in steps]
            ticks = [tick for tick in every if self.low <= tick <= self.high]
            if len(ticks) <= 9:
                break
        return ticks


def ramp_of(costs: Iterable[float]) -> Ramp:
    """For all that cost something; without a bar where nothing is known to."""
    known = [cost for cost in costs if cost > 0]
    return Ramp(min(known), max(known)) if known else Ramp(0.0, 0.0)
