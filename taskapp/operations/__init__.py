"""What can be done: each validates by itself, writes, and returns the result or raises.

Pages and API call the same operations, so neither can forget a rule of the other.
"""
