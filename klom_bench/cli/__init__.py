"""The command `klom`, a file a group of its commands."""

from klom_bench.cli.command import main as main
