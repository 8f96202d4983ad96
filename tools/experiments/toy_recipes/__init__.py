"""Recipes of the baselines on toy data, and the chance level of each benchmark."""
