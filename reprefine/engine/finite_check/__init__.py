"""Training stops where it is no longer finite, and the step can be run again."""
