"""Solvers of stage 1: a linear least-squares problem in closed form, and neural fields fitted by Adam."""
