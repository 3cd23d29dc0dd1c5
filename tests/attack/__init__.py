"""Attacks by operators: each is tried in every way that the console has, and each test shows that it would be seen."""
