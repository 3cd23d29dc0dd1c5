"""Attacks: a test for each threat, with a control which shows that a successful attack would be detected.

A control removes the defence and expects the attack to succeed. Without it, a test could pass because the attack
itself is broken.
"""
