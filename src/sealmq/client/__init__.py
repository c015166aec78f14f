"""The MQTT client: a target, an identity, and a connection over verified TLS.

It refuses to connect without verifying the server.
"""
