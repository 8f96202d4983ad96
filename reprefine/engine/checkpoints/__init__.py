"""Checkpoints: written whole, read without running what they hold, and fitted into a model."""
