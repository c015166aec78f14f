"""Owns HiveMQ CE among the brokers: the embedded edition from Maven, in the program of HiveMq.java.

It refuses to count what a young process costs: a load goes before, for the compiler of the JVM. Its best: sessions in
memory, overload protection off (it would slow the senders down), queues with room, 2 GiB for the parallel collector,
which spends the least processor time.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import CACHE, Broker, Files, Peer, fetched, free_port, program, reached, started, version_of
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

VERSION = "2025.5"
SOURCE = Path(__file__).with_name("HiveMq.java")
FOLDER = CACHE / "hivemq"
PASSWORD = "changeit"  # noqa: S105 - of a key that lives for one run
PROJECT = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>bench</groupId><artifactId>hivemq</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.hivemq</groupId><artifactId>hivemq-community-edition-embedded</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""
CONFIGURATION = """<?xml version="1.0"?>
<hivemq>
  <listeners><tls-tcp-listener>
    <port>{port}</port><bind-address>127.0.0.1</bind-address>
    <tls>
      <keystore>
        <path>{keys}</path><password>{password}</password><private-key-password>{password}</private-key-password>
      </keystore>
      <truststore><path>{trust}</path><password>{password}</password></truststore>
      <client-authentication-mode>REQUIRED</client-authentication-mode>
      <protocols><protocol>TLSv1.3</protocol></protocols>
    </tls>
  </tls-tcp-listener></listeners>
  <mqtt>
    <queued-messages><max-queue-size>100000</max-queue-size></queued-messages>
    <receive-maximum><server-receive-maximum>65535</server-receive-maximum></receive-maximum>
  </mqtt>
  <restrictions><max-connections>-1</max-connections></restrictions>
  <persistence><mode>in-memory</mode></persistence>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
"""


def install() -> str:
    """By mvn, compiled by the Java that runs it."""
    if not (FOLDER / "jars").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "pom.xml").write_text(PROJECT)
        fetched([program("mvn", "maven"), "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"], FOLDER)
    built = FOLDER / "HiveMq.class"
    if not built.exists() or built.stat().st_mtime < SOURCE.stat().st_mtime:
        fetched([program("javac", "default-jdk-headless"), "-cp", "jars/*", "-d", FOLDER, SOURCE], FOLDER)
    return f"HiveMQ CE {VERSION} on {version_of('java', '-version')}"


@contextmanager
def run(folder: Path) -> Iterator[Peer]:
    """HiveMQ on `folder`."""
    files, port = Files.make(folder), free_port()
    for name in ("conf", "data", "extensions"):
        (folder / name).mkdir(exist_ok=True)
    chain = x509.load_pem_x509_certificates(files.server_certificate.read_bytes())
    key = load_pem_private_key(files.server_key.read_bytes(), None)
    sealed = BestAvailableEncryption(PASSWORD.encode())
    keys, trust = folder / "keys.p12", folder / "trust.p12"
    keys.write_bytes(pkcs12.serialize_key_and_certificates(b"server", key, chain[0], chain[1:], sealed))  # type: ignore[arg-type]
    trust.unlink(missing_ok=True)
    # One made by another tool lacks the mark by which Java tells a trusted certificate.
    for number, certificate in enumerate(files.client_ca.read_text().split("-----END CERTIFICATE-----")[:-1]):
        words: list[str | Path] = ["keytool", "-importcert", "-noprompt", "-storetype", "PKCS12", "-keystore", trust]
        words += ["-storepass", PASSWORD, "-alias", f"ca-{number}"]
        text = f"{certificate}-----END CERTIFICATE-----\n"
        subprocess.run(words, input=text.encode(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (folder / "conf" / "config.xml").write_text(
        CONFIGURATION.format(port=port, keys=keys, trust=trust, password=PASSWORD)
    )
    path = os.pathsep.join([str(FOLDER), f"{FOLDER}/jars/*"])
    command = ["java", "-XX:+UseParallelGC", "-Xmx2g", "-Djava.awt.headless=true", "-cp", path, "HiveMq"]
    with started([*command, folder / "conf", folder / "data", folder / "extensions"], port, folder) as process:
        yield reached("hivemq", port, files, process)


BROKER = Broker(
    "hivemq",
    install,
    run,
    cannot={"sparse-5000": "minutes of handshakes", "idle-15000": "minutes of handshakes"},
    rounds=3,
    is_compiled_late=True,
)
