"""What a model costs: parameters, FLOPs, time and memory, and how two models compare."""
