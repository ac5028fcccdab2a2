"""What methods cost, as colours."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from klom_bench.report.figures.axes import STEPS, percent
from klom_bench.report.figures.canvas import RAMP, SMALL


@dataclass(frozen=True)
class Ramp:
    """From the lowest to the highest cost, logarithmic where that is more than a decade."""

    low: float
    high: float

    @property
    def norm(self) -> Normalize:
        """Costs as numbers from 0 to 1."""
        wide = self.high > 10 * self.low
        return LogNorm(self.low, self.high) if wide else Normalize(0.0, self.high)

    def colour(self, cost: float) -> tuple[float, ...]:
        """Grey where it is not known."""
        if math.isnan(cost):
            return (0.6, 0.6, 0.6, 1.0)
        return colormaps[RAMP](float(self.norm(min(max(cost, self.low), self.high))))

    def bar(self, figure: Figure, axes: Axes) -> None:
        """What colours mean, right of the axes."""
        width, box = figure.get_size_inches()[0], axes.get_position()
        place = box.x1 + 0.1 / width, box.y0 + 0.1 * box.height, 0.09 / width, 0.8 * box.height
        beside = figure.add_axes(place)
        drawn = figure.colorbar(ScalarMappable(self.norm, RAMP), cax=beside)
        ticks = self._ticks(STEPS)
        ticks = ticks if len(ticks) <= 7 else self._ticks(STEPS[:1])
        drawn.set_ticks(ticks, labels=[percent(tick) for tick in ticks])
        drawn.outline.set_linewidth(0.4)
        beside.yaxis.set_minor_locator(NullLocator())
        beside.set_title("cost", fontsize=SMALL, pad=4)

    def _ticks(self, steps: Iterable[int]) -> list[float]:
        low = self.low if self.high > 10 * self.low else 0.0
        every = (step * 10.0**k for k in range(-9, 6) for step in steps)
        return [tick for tick in every if low <= tick <= self.high and tick >= self.high / 1e6]


def ramp_of(costs: Iterable[float]) -> Ramp:
    """For all that cost something."""
    known = [cost for cost in costs if cost > 0]
    return Ramp(min(known), max(known)) if known else Ramp(0.01, 1.0)
