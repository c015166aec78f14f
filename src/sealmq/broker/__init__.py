"""The Python side of a running broker: start, stop, reload, its log, its control socket and its HTTPS door.

It refuses to touch a message; those never leave the data plane.
"""
