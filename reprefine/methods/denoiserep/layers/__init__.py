"""Layers with a noise predictor."""
