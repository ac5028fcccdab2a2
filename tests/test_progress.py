"""How long work tells how far it is, in a log."""

import time

from helpers.processes import wait_for

from klom_bench.progress import announcing, now_and_then, progress


def test_a_log_is_told_again_and_again_even_if_nothing_moves(capsys):
    with progress(seconds=0.01)("training oracles of forget_set_3", 100) as tick:
        tick(40)
        told = []
        wait_for(lambda: told.append(capsys.readouterr().err) or "".join(told).count("\n") > 2)
    lines = "".join(told).splitlines()
    assert {line.partition("/")[0] for line in lines} <= {
        "klom: training oracles of forget_set_3 0",
        "klom: training oracles of forget_set_3 40",
    }


def test_short_work_says_nothing_and_much_of_it_something():
    said = []
    with announcing(now_and_then(said.append, 1000))("scoring", 2) as tick:
        tick(1)
    assert said == []
    announce = announcing(now_and_then(said.append, 0.3))

    def a_little():
        with announce("scoring", 2):
            time.sleep(0.01)
        return said

    wait_for(a_little)
    assert said[0] == "scoring 0/2"


def test_nothing_is_said_once_work_has_ended():
    begun, said = [], []

    def slowly(text):
        begun.append(text)
        time.sleep(0.02)
        said.append(text)

    show = now_and_then(slowly, 0.001)
    for text in ("a", "b"):
        show(text)
        wait_for(lambda text=text: text in begun)
        show("")
        assert said == begun
