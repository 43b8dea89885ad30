"""Fuzz loops over the codecs: `python -m tests.fuzz [--seconds N] [--seed S]` runs all, `-m tests.fuzz.http1` one.

Each harness states its law by raising: PeerError is a fair answer, every other exception is a finding. A finding is
printed with the seed and the input, and the exit code is 1.
"""
