"""Owns Debian's nats-server among the brokers: MQTT is a gateway into NATS, and JetStream holds its sessions.

It refuses to compare what 2.9 lacks: QoS 2 came with 2.10. Its best: streams and consumers in memory as far as the
server allows, no log, and room for handshakes that wait.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import Broker, Files, Peer, free_port, program, reached, started, version_of

CONFIGURATION = """
server_name: bench
listen: "127.0.0.1:{inner}"
log_file: "{folder}/nats.log"
max_connections: 100000
max_pending: 268435456
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{
  listen: "127.0.0.1:{port}"
  max_ack_pending: 65535
  consumer_memory_storage: true
  tls {{
    cert_file: "{files.server_certificate}", key_file: "{files.server_key}", ca_file: "{files.client_ca}"
    verify: true
    timeout: 60
  }}
}}
"""


def install() -> str:
    """From Debian."""
    return version_of(program("nats-server", "nats-server"), "--version")


@contextmanager
def run(folder: Path) -> Iterator[Peer]:
    """nats-server on `folder`."""
    files, port = Files.make(folder), free_port()
    configuration = folder / "nats.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, files=files, port=port, inner=free_port()))
    with started([program("nats-server", "nats-server"), "-c", configuration], port, folder) as process:
        yield reached("nats", port, files, process)


BROKER = Broker("nats", install, run, cannot={"pairs-qos2": "2.9 has no QoS 2"})
