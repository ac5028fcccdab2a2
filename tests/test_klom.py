"""The main job, as in a user's project: pytest tests/test_klom.py --klom-method=ga."""

from klom_bench.suite import test_klom as test_klom
