"""sealmq: a secure-by-default MQTT broker, device PKI, handshake insight and client in one package.

Importing it loads nothing heavy; each part is imported where it is used.
"""
