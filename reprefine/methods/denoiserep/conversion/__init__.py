"""Replacing the layers of a model by layers with a noise predictor."""
