"""Comparison of parameters, FLOPs, time and memory of two models, or of this Runner and mmengine's.

Serves "No waste per step" of docs/reliability.md, whose table it measures, and the method's cost tables. Costs a run
nothing: only tools import it.
"""
