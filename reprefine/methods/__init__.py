"""The refinement methods, one folder each; see README.md for the layout of a folder."""
