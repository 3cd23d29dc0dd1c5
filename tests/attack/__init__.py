"""Attacks: a test for each threat, and beside it a control which shows that the attack would be seen.

A control takes the defence away and expects the attack to succeed. Without it, a test could pass because the attack
itself is broken.
"""
