"""A run that is stopped goes on exactly where it was."""
