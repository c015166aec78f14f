"""A real connection, made and written down: sockets, TLS libraries, the talk in the channel, questions asked after it.

It refuses to say what any of it means: what comes out is a recording. Importing this package loads nothing.
"""
