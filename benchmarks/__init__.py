"""Timings of every method against the peers installed for it: ``python -m benchmarks``."""
