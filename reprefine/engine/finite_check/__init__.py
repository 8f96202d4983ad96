"""Ends training at the first loss or gradient that is NaN or infinite, and replays that step.

Serves "NaN and infinity" of docs/reliability.md. Costs a sum of the losses and gradient norms each step; no wait for
the device.
"""
