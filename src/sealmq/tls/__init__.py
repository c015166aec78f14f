"""TLS for programs of their own: `client_context` and `server_context`, with the policy of the broker.

It knows nothing of MQTT; what comes out is an `ssl.SSLContext` for paho, aiomqtt, asyncio, or anything that takes one.
"""

from sealmq.tls.contexts import ClientCertificate, client_context, server_context

__all__ = ["ClientCertificate", "client_context", "server_context"]
