"""A device with paho-mqtt: reports a temperature, obeys `devices/<id>/set`. Knows nothing of how its files were made.

.venv/bin/pip install paho-mqtt
.venv/bin/sealmq device add sensor-1
.venv/bin/python examples/paho_device.py mqtts://localhost:8883 sealmq-data/devices/sensor-1
"""

# ruff: noqa: T201
import argparse
import random
import threading
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt

from sealmq.tls import client_context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="mqtts://HOST:PORT")
    parser.add_argument("files", type=Path, help="folder with cert.pem, key.pem and ca.pem; its name is the device id")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="time between two reports")
    options = parser.parse_args()
    url, device, topic = urlsplit(options.url), options.files.resolve().name, f"devices/{options.files.resolve().name}"
    stopped = threading.Event()

    def on_connect(client: mqtt.Client, _user: object, _flags: object, reason: object, _properties: object) -> None:
        print(f"connected: {reason}", flush=True)
        client.subscribe(f"{topic}/set", qos=1)  # here, so that a reconnect subscribes again

    def on_message(_client: mqtt.Client, _user: object, message: mqtt.MQTTMessage) -> None:
        print(f"asked to {message.payload.decode()}", flush=True)
        if message.payload == b"stop":
            stopped.set()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device, protocol=mqtt.MQTTv5)
    # TLS 1.2 or 1.3, the broker verified by CA and name, and this device's own certificate
    client.tls_set_context(
        client_context(
            ca=options.files / "ca.pem", certificate=options.files / "cert.pem", key=options.files / "key.pem"
        )
    )
    client.will_set(f"{topic}/status", "offline", qos=1, retain=True)
    client.on_connect, client.on_message = on_connect, on_message
    client.connect(url.hostname or "localhost", url.port or 8883)
    client.loop_start()
    client.publish(f"{topic}/status", "online", qos=1, retain=True)
    while not stopped.wait(options.every):
        client.publish(f"{topic}/temperature", f"{random.gauss(21.5, 0.3):.1f}", qos=1)
    client.publish(f"{topic}/status", "stopped", qos=1, retain=True).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
