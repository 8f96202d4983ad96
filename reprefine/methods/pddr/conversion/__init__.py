"""Replacing the layers of a model by disentangled ones, and the plain layers that they equal."""
