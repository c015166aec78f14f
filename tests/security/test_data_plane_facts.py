"""What facts are sorted by is what they say, and nobody waits for facts longer than there can be some."""

from __future__ import annotations

import json
import threading

from data_plane import SECONDS, BareNode
from raw_mqtt import Wire, connect


def test_the_outline_of_a_fact_is_what_it_says(tmp_path):
    with BareNode(tmp_path) as node:
        with Wire.open(node.port, node.device("sensor-1")) as wire:
            wire.send(connect('sensor-1:\u00e9\u2028"\\'))
            wire.packet()
        found = []
        while not found or found[-1][0] != "disconnected":
            more = node.node.poll_events(int(SECONDS * 1000))
            assert more, found
            found += more
    assert [event for event, *_ in found] == ["connected", "disconnected"]
    for event, client_id, device, peer, certificate, text in found:
        whole = json.loads(text)
        sha256 = whole["certificate"]["sha256"] if event == "connected" else ""
        assert (event, client_id, device, peer) == tuple(whole[key] for key in ("event", "client_id", "device", "peer"))
        assert (client_id, device, certificate) == ('sensor-1:\u00e9\u2028"\\', "sensor-1", sha256)
        assert peer.startswith("127.0.0.1:")


def test_a_fact_without_a_connection_has_an_empty_outline(tmp_path):
    with BareNode(tmp_path) as node, Wire.open(node.port, node.device("sensor-1")) as wire:
        wire.send(connect("another"))
        wire.packet()
        ((event, *outline, text),) = node.node.poll_events(int(SECONDS * 1000))
        assert (event, outline, json.loads(text)["client_id"]) == ("refused", [""] * 4, "another")


def test_the_end_of_the_node_ends_the_wait_for_facts(tmp_path):
    with BareNode(tmp_path) as node:
        waiting = threading.Thread(target=node.node.poll_events, args=(3_600_000,))
        waiting.start()
        node.node.stop(0)
        waiting.join(SECONDS)
        assert not waiting.is_alive()
        assert node.node.poll_events(3_600_000) == []
