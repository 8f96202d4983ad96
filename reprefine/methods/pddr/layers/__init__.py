"""The disentangled layers: branches, gate, training and deployed form, and their state dicts."""
