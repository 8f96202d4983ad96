"""Faster training steps with unchanged results: fewer calls per step, and no reads from the device between two logs.

Promise: "No waste per step" in docs/reliability.md. Costs: mmengine's message hub is replaced, and the optimisers and
averages of a list of verified classes are changed in place.
"""
