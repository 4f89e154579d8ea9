"""The judgements of the benchmark: what is the same term, the same answer, a fair round."""

import pytest

from benchmarks.answer import Answer, Tolerance, agreement, canonical
from benchmarks.clock import Budget, race
from benchmarks.contender import Run
from benchmarks.rows import judge

OURS = Answer({"Intercept": 1.0, "x": 2.0}, {"Intercept": 0.5, "x": 0.1}, {"g": 2.0}, -10.0)


class Fake:
    """A contender that notes its turns."""

    def __init__(self, name, turns, fails=False):
        self.name, self.turns, self.fails, self.formula = name, turns, fails, True

    def run(self):
        self.turns.append(self.name)
        if self.fails:
            raise RuntimeError("no such thing\nsecond line")
        return Run(1.0, 1.0, None, OURS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("period[T.2]", "period2"),
        ("(Intercept)", "Intercept"),
        ("trt[drug+]", "trtdrug+"),
        ("log_base4:trt[T.progabide]", "trtprogabide:log_base4"),
    ],
)
def test_one_term_has_one_name_in_every_package(one, other):
    assert canonical(one) == canonical(other)


def test_differences_are_measured_in_our_standard_errors():
    peer = Answer({"x": 2.01, "Intercept": 1.0}, {"x": 0.11, "Intercept": 0.5}, {"g": 2.2}, -10.25)
    found = agreement(OURS, peer)
    measured = (found.beta, found.se, found.sd, found.loglik)
    assert measured == pytest.approx((0.1, 0.1, 0.1, 0.25))
    assert not found.within(Tolerance())
    assert judge(OURS, peer, Tolerance())[1] == "the answers differ"


def test_what_a_peer_lacks_is_not_held_against_it():
    found = agreement(OURS, Answer(OURS.beta, OURS.se))
    assert found.within(Tolerance())
    assert (found.sd, found.loglik) == (None, None)


def test_an_answer_that_is_not_a_number_does_not_agree():
    peer = Answer(OURS.beta, {"Intercept": float("nan"), "x": 0.1})
    assert judge(OURS, peer, Tolerance())[1] == "the answers differ"


def test_other_terms_cannot_be_compared():
    found, remark = judge(OURS, Answer({"z": 1.0}, {"z": 1.0}), Tolerance())
    assert found is None
    assert remark.startswith("cannot be compared")


def test_every_round_has_all_contenders_and_another_start():
    turns = []
    timings = race([Fake("a", turns), Fake("b", turns)], Budget(least=2, most=3, seconds=1.5))
    assert turns == ["a", "b", "a", "b", "b", "a"]  # warm-up, then two rounds
    assert [len(t.runs) for t in timings] == [2, 2]


def test_a_contender_that_fails_is_left_out_and_says_why():
    turns = []
    broken, sound = race([Fake("a", turns, fails=True), Fake("b", turns)], Budget(1, 1))
    assert broken.failure == "no such thing"
    assert turns == ["a", "b", "b"]
    assert sound.answer is OURS
