"""The sections of a report, in order: each is a function of the Material."""

from . import answer, checks, comparison, data, groups, model, provenance, reading, variance

SECTIONS = (
    ("answer", "In short", answer.answer),
    ("data", "The data", data.data),
    ("model", "The model", model.model),
    ("comparison", "All methods side by side", comparison.comparison),
    ("variance", "How much groups differ", variance.variance),
    ("groups", "The group effects", groups.groups),
    ("predictive", "Does the model reproduce the data?", checks.predictive),
    ("sampling", "Did the sampler work?", checks.sampling),
    ("messages", "What the methods report", provenance.messages),
    ("reading", "How to read this", reading.reading),
    ("provenance", "Versions, seed and command", provenance.provenance),
)
