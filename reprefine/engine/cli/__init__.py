"""The commands behind tools/: training, testing, and running several scripts."""
