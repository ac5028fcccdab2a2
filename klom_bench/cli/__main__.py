"""python -m klom_bench.cli."""

from klom_bench.cli.command import main

raise SystemExit(main())
