"""Tasks: a dataset, an architecture and a training recipe that belong together."""

from klom_bench.tasks.cifar10 import CIFAR10_AUGMENTED, CIFAR10_TASK
from klom_bench.tasks.data import Data
from klom_bench.tasks.digits import DIGITS, DIGITS_CNN
from klom_bench.tasks.living17 import LIVING17
from klom_bench.tasks.task import Task

BUILT_IN = {
    task.name: task for task in (DIGITS, DIGITS_CNN, CIFAR10_TASK, CIFAR10_AUGMENTED, LIVING17)
}

__all__ = ["BUILT_IN", "DIGITS", "DIGITS_CNN", "Data", "Task"]
