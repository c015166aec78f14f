"""What is kept of a trace: replay equals live, the file is private, and a pcapng opens decrypted."""

import json
import stat
import struct
from pathlib import Path

import pytest
import servers

from sealmq import trace
from sealmq.errors import Environment, LocalMisuse, UsageError
from sealmq.testing import EphemeralBroker
from sealmq.trace import pcapng
from sealmq.trace.build import trace_of
from sealmq.trace.live import recorder
from sealmq.trace.model import from_json, to_json
from sealmq.trace.recording import Recording
from sealmq.trace.request import Identity, Request
from sealmq.trace.target import Target


@pytest.fixture
def recording() -> Recording:
    """A resumed session with our broker."""
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        identity = Identity(files.ca, files.cert, files.key)
        return recorder.run(Request(Target.parse(broker.url), identity, resume=True))


def test_a_replay_is_the_same_trace(recording: Recording, tmp_path: Path) -> None:
    live = trace_of(recording)
    recording.write(tmp_path / "kept.json")
    shown = trace.replay(tmp_path / "kept.json")
    assert shown.previous is not None
    # times are kept to the microsecond
    assert to_json(shown) == to_json(trace_of(Recording.from_bytes(recording.to_bytes(), name="")))
    assert [(step.message, step.says, step.bytes, step.state) for step in shown.steps] == [
        (step.message, step.says, step.bytes, step.state) for step in live.steps
    ]
    assert (shown.outcome, shown.tls, shown.proofs) == (live.outcome, live.tls, live.proofs)
    assert stat.S_IMODE((tmp_path / "kept.json").stat().st_mode) == 0o600


def test_a_failed_trace_is_replayed_too(tmp_path: Path) -> None:
    recording = recorder.run(Request(Target.parse("mqtts://no-such-host.invalid")))
    recording.write(tmp_path / "kept.json")
    assert trace.replay(tmp_path / "kept.json").cause == trace_of(recording).cause == "dns"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"sealmq_recording": 9}',
        b'{"sealmq_recording": 1}',
        b'{"sealmq_recording": 1, "conditions": {}, "connections": []}',
        b'{"sealmq_recording": 1, "conditions": {"url": 1}, "connections": [[["x"]]]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is no recording of a trace") as caught:
        trace.replay(path)
    assert caught.value.code == "recording-invalid"
    with pytest.raises(Environment):
        trace.replay(tmp_path / "missing.json")


@pytest.mark.parametrize(
    "path", [("conditions", "url"), ("conditions", "started"), ("connections",), ("conditions", "mqtt")]
)
def test_a_recording_with_a_part_of_another_kind(recording: Recording, path: tuple[str, ...]) -> None:
    whole = json.loads(recording.to_bytes())
    at = whole
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = 17
    with pytest.raises(UsageError, match="is no recording"):
        trace_of(Recording.from_bytes(json.dumps(whole).encode(), name="x"))


def test_a_capture_for_wireshark_is_told_from_a_recording(tmp_path: Path, recording: Recording) -> None:
    path = tmp_path / "kept.pcapng"
    path.write_bytes(pcapng.to_bytes(recording))
    with pytest.raises(UsageError, match="is a capture for Wireshark") as caught:
        trace.replay(path)
    assert caught.value.code == "recording-invalid"


def test_json_that_is_no_trace_is_refused() -> None:
    for value in (None, [], {}, {"schema": 1}, {"schema": 99}):
        with pytest.raises(LocalMisuse) as caught:
            from_json(value)
        assert caught.value.code == "trace-invalid"


# --- pcapng -----------------------------------------------------------------------------------------------------------


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """The blocks of a pcapng file, lengths checked at both ends."""
    found = []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4)[0] == length
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_pcapng_holds_the_bytes_and_the_secrets(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "kept.pcapng"
    pcapng.write(recording, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = blocks(path.read_bytes())
    assert [kind for kind, _ in found[:3]] == [0x0A0D0D0A, 1, 10]
    kind, length = struct.unpack_from("<II", found[2][1])
    assert kind == 0x544C534B
    assert found[2][1][8 : 8 + length] == recording.key_log
    streams: dict[tuple[int, int], bytes] = {}
    for kind, body in found[3:]:
        assert kind == 6
        size = struct.unpack_from("<I", body, 12)[0]
        packet = body[20 : 20 + size]
        assert checksum(packet[:20]) == 0xFFFF
        assert checksum(packet[12:20] + struct.pack("!HH", 6, size - 20) + packet[20:]) == 0xFFFF
        ports = struct.unpack_from("!HH", packet, 20)
        streams[ports] = streams.get(ports, b"") + packet[40:]
    expected = [
        b"".join(event.data for event in events if event.kind == kind)
        for events in recording.connections
        for kind in ("sent", "received")
    ]
    assert sorted(streams.values()) == sorted(expected)


def test_a_recording_without_a_connection_makes_an_empty_pcapng() -> None:
    recording = recorder.run(Request(Target.parse("mqtts://no-such-host.invalid")))
    assert [kind for kind, _ in blocks(pcapng.to_bytes(recording))] == [0x0A0D0D0A, 1]


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "leak"))
    files = servers.ecdsa(tmp_path / "server")
    with servers.s_server(files) as (url, _):
        assert trace.record(url, ca=files.ca).outcome == "ok"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []
