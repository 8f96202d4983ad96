"""Networks and base classes that belong to neither a method nor a task."""
