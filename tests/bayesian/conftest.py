"""The one posterior that the quick tests share."""

import pytest

import bayes_glmm as bg


@pytest.fixture(scope="session")
def cbpp():
    return bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        bg.load_dataset("cbpp"),
        family="binomial",
    )


@pytest.fixture(scope="session")
def cbpp_posterior(cbpp):
    return cbpp.fit(bg.NUTS())
