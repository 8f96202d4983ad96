"""A training step without waiting for the device, and with few calls."""
