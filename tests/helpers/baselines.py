ASKED = ("--klom-method=do_nothing,ga", "--klom-forget-set=1,3", "--klom-models=6")


def lower_ga_on_3(test, record):
    """As if the forget set had scored less before."""
    if test == "digits-forget_set_3-ga":
        record["scores"]["forget"]["p95"] -= 0.5


def change(key, value):
    def made(test, record):
        record[key] = value

    return made
