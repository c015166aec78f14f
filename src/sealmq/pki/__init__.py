"""Identity: the CA, what it issues, the registry of devices, and reading certificates anybody else made.

It knows nothing of sockets or of MQTT; importing this package loads none of the heavy libraries, its modules do.
"""
