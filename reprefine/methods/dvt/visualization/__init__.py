"""Visualisation of features, of their decomposition, and of the denoiser."""
