from klom_bench.methods import BUILT_IN

SMALL = ("--models", "4", "--trials", "4")


def method(name):
    return BUILT_IN[name]
