"""Plots and visualisation hooks."""
