"""The sections of a report, in order: each is a function of the Material."""

from . import (
    answer,
    comparison,
    data,
    groups,
    likelihood,
    model,
    predictive,
    prior,
    provenance,
    reading,
    residuals,
    sampling,
    trend,
    variance,
)

SECTIONS = (
    ("answer", "In short", answer.answer),
    ("data", "The data", data.data),
    ("model", "The model", model.model),
    ("prior", "What the priors say before the data", prior.prior),
    ("comparison", "All methods side by side", comparison.comparison),
    ("trend", "The fitted trend", trend.trend),
    ("likelihood", "The likelihood: nodes and profiles", likelihood.likelihood),
    ("variance", "How much groups differ", variance.variance),
    ("groups", "The group effects", groups.groups),
    ("residuals", "What is left: residuals", residuals.residuals),
    ("predictive", "Does the model reproduce the data?", predictive.predictive),
    ("sampling", "Did the sampler work?", sampling.sampling),
    ("messages", "What the methods report", provenance.messages),
    ("reading", "How to read this", reading.reading),
    ("provenance", "Versions, seed and command", provenance.provenance),
)
