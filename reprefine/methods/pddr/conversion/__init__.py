"""Conversion of models: replacing convolutions by PDConv, static gates, and the lottery-ticket initialisation."""
