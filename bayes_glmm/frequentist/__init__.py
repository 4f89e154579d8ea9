"""The frequentist companion: one module per method, each with ``fit(model, method) -> Fit``."""
