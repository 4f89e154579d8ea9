"""The judgements of the benchmark: what is the same term, the same answer, a fair round."""

import pytest

import bayes_glmm as bg
from benchmarks import ours, r_peers
from benchmarks.answer import Answer, Tolerance, agreement, canonical
from benchmarks.cases import DECAY, NUGGET, NUGGET_ALONE, PENICILLIN, SLEEP, Case, cases
from benchmarks.clock import Budget, race
from benchmarks.contender import Run
from benchmarks.frames import frame
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


@pytest.mark.parametrize("quick", [True, False])
def test_every_linear_case_has_a_name_of_its_own(quick):
    names = [case.name for case in cases(quick) if isinstance(case.method, bg.REML)]
    assert len(set(names)) == len(names) >= 3


@pytest.mark.parametrize(
    ("problem", "package", "call"),
    [
        (SLEEP, "lme4", "lme4::lmer(reaction ~ days + (days | subject), d)"),
        (SLEEP, "nlme", "nlme::lme(reaction ~ days, d, ~ days | subject, )"),
        (PENICILLIN, "lme4", "lmer(diameter ~ 1 + (1 | plate) + (1 | sample), d)"),
        (DECAY, "nlme", "corExp(form = ~ time | cow, nugget = FALSE)"),
        (NUGGET, "nlme", "d, ~ 1 | cow, correlation = nlme::corExp(form = ~ time | cow, nugget"),
        (NUGGET_ALONE, "nlme", "nlme::gls(protein ~ diet + time + time2, d, correlation ="),
    ],
)
def test_r_is_asked_for_the_same_linear_model(problem, package, call):
    case = Case(problem, bg.REML())
    assert call in r_peers.expression(r_peers.calls(case)[package], case)


def test_crossed_factors_and_correlated_residuals_go_to_the_package_that_has_them():
    has = {p.name: set(r_peers.calls(Case(p, bg.REML()))) for p in (SLEEP, PENICILLIN, NUGGET)}
    assert list(has.values()) == [{"lme4", "nlme"}, {"lme4"}, {"nlme"}]


def test_our_answer_holds_the_sds_of_intercepts():
    contender, _ = ours.contenders(Case(SLEEP, bg.REML()))
    found = contender.run().answer
    # lme4's restricted likelihood of sleepstudy (Bates et al. 2015, section 1.2)
    assert found.sd == {"subject": pytest.approx(24.740, abs=1e-3)}
    assert found.loglik == pytest.approx(-871.814, abs=1e-3)


def test_simulated_ratings_have_the_levels_that_they_are_named_for():
    data = frame("ratings-7000")
    assert len(data) == 7000
    assert set(data["rater"]) <= set(range(300)) and set(data["rated"]) <= set(range(110))
