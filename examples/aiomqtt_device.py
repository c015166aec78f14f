"""A device with aiomqtt and Python's own `ssl`: answers requests on `devices/<id>/ask`. Knows nothing of sealmq.

.venv/bin/pip install aiomqtt
.venv/bin/sealmq device add sensor-1
.venv/bin/python examples/aiomqtt_device.py localhost 8883 sealmq-data/devices/sensor-1
"""

# ruff: noqa: T201
import argparse
import asyncio
import ssl
from pathlib import Path

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def tls_context(files: Path) -> ssl.SSLContext:
    """The broker is verified against `ca.pem` and by its name; the broker knows this device by `cert.pem`."""
    context = ssl.create_default_context(cafile=files / "ca.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    return context


async def serve(host: str, port: int, device: str, context: ssl.SSLContext) -> None:
    """Answer each request on its response topic, until one says `stop`."""
    client = aiomqtt.Client(host, port, identifier=device, tls_context=context, protocol=aiomqtt.ProtocolVersion.V5)
    async with client:
        await client.subscribe(f"devices/{device}/ask", qos=1)
        print("connected", flush=True)
        async for message in client.messages:
            question = message.payload.decode()
            answer_to = getattr(message.properties, "ResponseTopic", f"devices/{device}/answers")
            properties = Properties(PacketTypes.PUBLISH)
            if hasattr(message.properties, "CorrelationData"):
                properties.CorrelationData = message.properties.CorrelationData
            await client.publish(answer_to, f"{question}: 42", qos=1, properties=properties)
            if question == "stop":
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("files", type=Path, help="folder with cert.pem, key.pem and ca.pem; its name is the device id")
    options = parser.parse_args()
    asyncio.run(serve(options.host, options.port, options.files.resolve().name, tls_context(options.files)))


if __name__ == "__main__":
    main()
