"""Running configs: strict checking, checkpoints, hooks and loops that are not a method's own."""
