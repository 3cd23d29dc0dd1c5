"""Carry out what clients ask: who they are, whether they may, and the one write of each request.

``permissions`` knows users and rights, ``writes`` turns one mutation into one reply, ``revocation`` puts changes of
rights into the log, so that open sockets lose them in order.
"""
