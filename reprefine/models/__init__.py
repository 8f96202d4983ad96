"""Plain networks that neither a method nor a task owns."""
