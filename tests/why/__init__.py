"""Causes that are planted for real, with each kind of binding, and asked about as an operator would ask."""
