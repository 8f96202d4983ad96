"""What can be wrong with data: found before a run, named or replaced in it."""
