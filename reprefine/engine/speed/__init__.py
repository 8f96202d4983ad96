"""Faster training steps with unchanged results: fewer calls per step, and no reads from the device between two logs.

Serves "No waste per step" of docs/reliability.md. Costs nothing per step; replaces mmengine's message hub and changes
optimisers and averages of verified classes in place.
"""
