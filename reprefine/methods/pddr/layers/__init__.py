"""The layers PDConv and PDLinear: branches, gate, training and deployed form, and their state dicts."""
