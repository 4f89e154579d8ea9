"""Simulation studies and numerical checks, one command each."""
