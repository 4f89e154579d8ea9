"""The Bayesian side: the only folder that imports PyMC."""
