"""Measurements: quality and its loss, parity, latency, memory and profile, each a pass that writes `result.json`.

The modules named like passes are passes; the others are what they share. `result` says how a result is written.
"""
