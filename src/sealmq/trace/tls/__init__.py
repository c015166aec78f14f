"""TLS on the wire, opened and proven: bytes of both directions and a key log in, messages out.

It refuses to know sockets, files and MQTT; importing this package loads nothing, its modules do.
"""
