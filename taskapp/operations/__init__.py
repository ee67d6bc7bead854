"""Use cases: each validates its input, writes, and returns the result or raises.

Pages and API call the same operations, so both apply the same rules.
"""
