"""Figures of feature maps, and how much features depend on the position of a token."""
