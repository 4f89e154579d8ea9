"""Figures: each takes plain arrays and gives an ``Image``; none knows a model or a fit."""
