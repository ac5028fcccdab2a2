"""Tasks: a dataset, an architecture and a training recipe that belong together."""

from klom_bench.tasks.digits import DIGITS
from klom_bench.tasks.task import Data, Task

BUILT_IN = {task.name: task for task in (DIGITS,)}

__all__ = ["BUILT_IN", "DIGITS", "Data", "Task"]
