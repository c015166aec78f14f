"""Sessions end to end, over TLS with two stock clients: takeover, keep-alive, wills, expiry, flow control."""

from __future__ import annotations

import pytest
from stock import V5, V311, Paho

SESSION_TAKEN_OVER, KEEP_ALIVE_TIMEOUT = 0x8E, 0x8D


@pytest.fixture
def base(device):
    return f"devices/{device}"


def test_a_second_connection_takes_over_the_session(broker, device, paho, version, base):
    old = paho("twin", version=version, clean=False, **expiry(version, 300))
    old.subscribe(f"{base}/#", qos=1)
    new = paho("twin", version=version, clean=False, **expiry(version, 300))
    reason = old.gone()
    if version == V5:
        assert reason.value == SESSION_TAKEN_OVER  # [MQTT-3.1.4-3]
    assert new.session_present
    assert broker.wait_event("disconnected", client_id=f"{device}:twin")["cause"] == "session-taken-over"
    paho("other", version=version).publish(f"{base}/x", "m", qos=1)
    assert new.next().payload == b"m"


def test_a_silent_client_is_closed_after_one_and_a_half_keep_alive(broker, device, paho, version, base):
    watcher = paho("watcher", version=version, keep_alive=1)  # it pings, and so it stays
    watcher.subscribe(f"{base}/status", qos=1)
    silent = paho("silent", version=version, keep_alive=1, will=(f"{base}/status", b"lost", 1, False))
    silent.silent()
    ended = broker.wait_event("disconnected", client_id=f"{device}:silent")
    assert ended["cause"] == "keep-alive-timeout"
    took = ended["at"] - broker.wait_event("connected", client_id=f"{device}:silent")["at"]
    assert 1400 <= took < 2600  # milliseconds [MQTT-3.1.2-22]
    assert watcher.next().payload == b"lost"
    reason = silent.read_to_the_end()
    if version == V5:
        assert reason.value == KEEP_ALIVE_TIMEOUT


@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_published_when_the_connection_breaks(paho, version, base, retain):
    watcher = paho("watcher", version=version)
    watcher.subscribe(f"{base}/status", qos=2)
    paho("doomed", version=version, will=(f"{base}/status", b"lost", 2, retain)).die()
    will = watcher.next()
    assert (will.payload, will.qos, will.retain) == (b"lost", 2, False)
    late = paho("late", version=version)
    late.subscribe(f"{base}/#")
    late.publish(f"{base}/fence", "f")
    assert late.next().topic == (f"{base}/status" if retain else f"{base}/fence")


def test_a_will_is_not_published_after_a_disconnect(paho, version, base):
    watcher = paho("watcher", version=version)
    watcher.subscribe(f"{base}/#")
    paho("polite", version=version, will=(f"{base}/status", b"lost", 0, False)).leave()
    watcher.publish(f"{base}/fence", "f")
    assert watcher.next().topic == f"{base}/fence"


def test_a_disconnect_with_will_message_publishes_it(paho, base):
    watcher = paho("watcher")
    watcher.subscribe(f"{base}/#")
    leaving = paho("leaving", will=(f"{base}/status", b"left", 0, False), will_properties={"ContentType": "text/plain"})
    leaving.client.disconnect(reasoncode=reason_code("Disconnect with will message"))
    will = watcher.next()
    assert will.payload == b"left"
    assert will.properties["ContentType"] == "text/plain"


def test_a_delayed_will_is_not_sent_when_the_client_is_back_in_time(paho, base):
    watcher = paho("watcher")
    watcher.subscribe(f"{base}/#")
    will = {"will": (f"{base}/status", b"lost", 0, False), "will_properties": {"WillDelayInterval": 30}}
    paho("flaky", clean=False, SessionExpiryInterval=300, **will).die()
    back = paho("flaky", clean=False, SessionExpiryInterval=300)
    assert back.session_present
    back.publish(f"{base}/fence", "f")
    assert watcher.next().topic == f"{base}/fence"


def test_a_delayed_will_comes_after_its_delay(broker, device, paho, base):
    watcher = paho("watcher")
    watcher.subscribe(f"{base}/#")
    will = {"will": (f"{base}/status", b"lost", 0, False), "will_properties": {"WillDelayInterval": 1}}
    paho("doomed", clean=False, SessionExpiryInterval=300, **will).die()
    broker.wait_event("disconnected", client_id=f"{device}:doomed")
    watcher.publish(f"{base}/fence", "f")
    assert watcher.next().topic == f"{base}/fence"
    assert watcher.next().payload == b"lost"


def test_a_delayed_will_does_not_outlive_its_session(paho, base):
    watcher = paho("watcher")
    watcher.subscribe(f"{base}/#")
    will = {"will": (f"{base}/status", b"lost", 0, False), "will_properties": {"WillDelayInterval": 600}}
    paho("doomed", SessionExpiryInterval=0, **will).die()  # whichever is first, delay or end of session [MQTT-3.1.3-9]
    assert watcher.next().payload == b"lost"


def test_a_session_is_kept_for_its_expiry_and_no_longer(paho, base):
    first = paho("a", clean=False, SessionExpiryInterval=1)
    first.subscribe(f"{base}/#", qos=1)
    first.leave()
    back = paho("a", clean=False, SessionExpiryInterval=1)
    assert back.session_present
    back.leave()
    # a delayed will of the same length is the clock: both timers start with the end of a connection
    watcher = paho("watcher")
    watcher.subscribe(f"{base}/tick")
    tick = {"will": (f"{base}/tick", b"", 0, False), "will_properties": {"WillDelayInterval": 2}}
    paho("clock", SessionExpiryInterval=60, **tick).die()
    watcher.next()
    assert not paho("a", clean=False, SessionExpiryInterval=1).session_present


def test_a_disconnect_may_shorten_the_life_of_the_session(paho):
    first = paho("a", clean=False, SessionExpiryInterval=300)
    first.leave(SessionExpiryInterval=0)
    assert not paho("a", clean=False, SessionExpiryInterval=300).session_present


def test_a_clean_start_ends_the_session_there_was(paho, version, base):
    first = paho("a", version=version, clean=False, **expiry(version, 300))
    first.subscribe(f"{base}/#", qos=1)
    first.leave()
    clean = paho("a", version=version, clean=True)
    assert not clean.session_present
    clean.publish(f"{base}/x", "nobody hears it", qos=1)
    clean.subscribe(f"{base}/#")
    clean.publish(f"{base}/fence", "f")
    assert clean.next().topic == f"{base}/fence"


def test_what_was_not_acknowledged_is_sent_again(paho, version, base):
    slow = paho("slow", version=version, clean=False, manual_ack=True, **expiry(version, 300))
    slow.subscribe(f"{base}/#", qos=1)
    paho("pub", version=version).publish(f"{base}/x", "m", qos=1)
    assert slow.next().payload == b"m"
    slow.die()
    again = paho("slow", version=version, clean=False, **expiry(version, 300))
    assert again.session_present
    assert again.next().payload == b"m"  # [MQTT-4.4.0-1]


def test_a_qos_2_message_whose_exchange_broke_off_after_pubrel_is_not_delivered_twice(paho, version, base):
    slow = paho("slow", version=version, clean=False, manual_ack=True, **expiry(version, 300))  # leaves out PUBCOMP
    slow.subscribe(f"{base}/#", qos=2)
    sender = paho("pub", version=version)
    sender.publish(f"{base}/x", "once", qos=2)
    assert slow.next().payload == b"once"
    slow.die()
    sender.publish(f"{base}/x", "after", qos=2)
    again = paho("slow", version=version, clean=False, **expiry(version, 300))
    assert again.session_present
    assert again.next().payload == b"after"  # PUBREL came again, the PUBLISH did not [MQTT-4.3.3-6]


def test_receive_maximum_holds_back_what_is_not_acknowledged(paho, base):
    slow = paho("slow", manual_ack=True, ReceiveMaximum=2)
    slow.subscribe(f"{base}/#", qos=1)
    sender = paho("pub")
    for number in range(5):
        sender.publish(f"{base}/n", str(number), qos=1)
    sender.publish(f"{base}/fence", "f", qos=0)  # QoS 0 is not counted [MQTT-3.3.4-9]
    assert [slow.next().payload for _ in range(3)] == [b"0", b"1", b"f"]
    for number in (b"2", b"3", b"4"):
        slow.acknowledge()
        assert slow.next().payload == number


def test_the_broker_says_its_limits(paho):
    found = paho("a").connack
    assert found["ReceiveMaximum"] == 1024
    assert found["TopicAliasMaximum"] == 64
    assert found["MaximumPacketSize"] == 1024 * 1024


def test_an_empty_client_id_gets_one_of_the_device(broker, device, files, paho):
    del paho
    with Paho(broker, files, client_id="") as nameless:
        assert nameless.connack["AssignedClientIdentifier"].startswith(f"{device}:")


def test_topic_aliases_towards_the_broker(paho, base):
    listener = paho("sub")
    listener.subscribe(f"{base}/#")
    sender = paho("pub")
    sender.publish(f"{base}/long/topic", "1", TopicAlias=3)
    sender.publish("", "2", TopicAlias=3)
    sender.publish(f"{base}/other", "3", TopicAlias=3)
    sender.publish("", "4", TopicAlias=3)
    got = [(message.topic.removeprefix(base), message.payload) for message in (listener.next() for _ in range(4))]
    assert got == [("/long/topic", b"1"), ("/long/topic", b"2"), ("/other", b"3"), ("/other", b"4")]


def test_topic_aliases_towards_the_client(paho, base):
    listener = paho("sub", TopicAliasMaximum=1)
    listener.subscribe(f"{base}/#")
    sender = paho("pub")
    for payload in ("1", "2"):
        sender.publish(f"{base}/x", payload)
    sender.publish(f"{base}/y", "3")
    first, second, third = (listener.next() for _ in range(3))
    assert (first.topic, first.properties["TopicAlias"]) == (f"{base}/x", 1)
    assert (second.topic, second.properties["TopicAlias"]) == ("", 1)
    assert third.topic == f"{base}/y"
    assert second.payload == b"2"


def test_no_topic_alias_for_a_client_that_allows_none(paho, base):
    listener = paho("sub")
    listener.subscribe(f"{base}/#")
    for _ in range(2):
        listener.publish(f"{base}/x", "m", TopicAlias=1)
        message = listener.next()
        assert message.topic == f"{base}/x"
        assert "TopicAlias" not in message.properties


def test_subscription_identifiers_of_all_matching_subscriptions(paho, base):
    listener = paho("sub")
    listener.subscribe(f"{base}/#", identifier=7)
    listener.subscribe(f"{base}/+", identifier=9, qos=1)
    paho("pub").publish(f"{base}/x", "m", qos=1)
    found = [listener.next()]
    if len(found[0].properties["SubscriptionIdentifier"]) == 1:  # one copy each is as good [MQTT-3.3.4-3]
        found.append(listener.next())
    numbers = [number for message in found for number in message.properties["SubscriptionIdentifier"]]
    assert sorted(numbers) == [7, 9]


@pytest.mark.parametrize(("handling", "first", "second"), [(0, True, True), (1, True, False), (2, False, False)])
def test_retain_handling(paho, base, handling, first, second):
    """0 sends retained messages at each subscribe, 1 only when the subscription is new, 2 never (section 3.8.3.1)."""
    listener = paho("sub")
    listener.publish(f"{base}/state", "on", qos=1, retain=True)
    for wanted in (first, second):
        listener.subscribe(f"{base}/state", retainHandling=handling)
        listener.subscribe(f"{base}/fence")
        listener.publish(f"{base}/fence", "f", qos=1)
        got = []
        while not got or got[-1].topic != f"{base}/fence":
            got.append(listener.next())
        assert [message.topic for message in got[:-1]] == ([f"{base}/state"] if wanted else [])
        assert all(message.retain for message in got[:-1])


def test_no_local_keeps_own_messages_away(paho, base):
    both = paho("both")
    both.subscribe(f"{base}/#", noLocal=True)
    other = paho("other")
    other.subscribe(f"{base}/#")
    both.publish(f"{base}/x", "own", qos=1)
    other.publish(f"{base}/x", "others", qos=1)
    assert both.next().payload == b"others"
    assert {other.next().payload, other.next().payload} == {b"own", b"others"}


def test_a_packet_too_large_for_the_subscriber_is_not_sent(paho, base):
    small = paho("small", MaximumPacketSize=256)
    small.subscribe(f"{base}/#", qos=1)
    sender = paho("pub")
    sender.publish(f"{base}/x", b"x" * 300, qos=1)
    sender.publish(f"{base}/x", "small", qos=1)
    assert small.next().payload == b"small"  # [MQTT-3.1.2-24]


def test_a_message_expires_while_its_subscriber_is_away(paho, base):
    away = paho("away", clean=False, SessionExpiryInterval=300)
    away.subscribe(f"{base}/#", qos=1)
    away.leave()
    sender = paho("pub")
    sender.publish(f"{base}/x", "short-lived", qos=1, MessageExpiryInterval=1)
    sender.publish(f"{base}/x", "long-lived", qos=1, MessageExpiryInterval=300)
    watcher = paho("watcher")
    watcher.subscribe(f"{base}/tick")
    tick = {"will": (f"{base}/tick", b"", 0, False), "will_properties": {"WillDelayInterval": 2}}
    paho("clock", SessionExpiryInterval=60, **tick).die()  # its delayed will says that two seconds have passed
    watcher.next()
    back = paho("away", clean=False, SessionExpiryInterval=300)
    message = back.next()
    while message.topic == f"{base}/tick":
        message = back.next()
    assert message.payload == b"long-lived"
    assert 290 <= message.properties["MessageExpiryInterval"] <= 298  # [MQTT-3.3.2-6]


def test_unsubscribe_ends_delivery(paho, version, base):
    listener = paho("sub", version=version)
    listener.subscribe(f"{base}/a")
    listener.subscribe(f"{base}/b")
    code = listener.unsubscribe(f"{base}/a")
    if version == V5:
        assert code == 0
        assert listener.unsubscribe(f"{base}/a") == 0x11  # no subscription existed
    listener.publish(f"{base}/a", "1", qos=1)
    listener.publish(f"{base}/b", "2", qos=1)
    assert listener.next().payload == b"2"


@pytest.mark.parametrize(("publisher", "subscriber"), [(V5, V311), (V311, V5)])
def test_the_two_versions_talk_to_each_other(paho, base, publisher, subscriber):
    listener = paho("sub", version=subscriber)
    listener.subscribe(f"{base}/#", qos=2)
    sender = paho("pub", version=publisher)
    props = {"ContentType": "text/plain"} if publisher == V5 else {}
    sender.publish(f"{base}/x", "m", qos=2, **props)
    message = listener.next()
    assert (message.payload, message.qos, message.properties) == (b"m", 2, {})


def test_shared_subscriptions_leave_out_nobody_who_is_not_in_the_group(paho, version, base):
    workers = [paho(f"worker-{number}", version=version) for number in range(3)]
    for worker in workers:
        worker.subscribe(f"$share/pool/{base}/jobs", qos=1)
    every = paho("every", version=version)
    every.subscribe(f"{base}/jobs", qos=1)
    for number in range(30):
        every.publish(f"{base}/jobs", str(number), qos=1)
    assert [every.next().payload for _ in range(30)] == [str(number).encode() for number in range(30)]
    for worker in workers:
        worker.subscribe(f"{base}/end")
    every.publish(f"{base}/end", "end")
    shares = []
    for worker in workers:
        shares.append([])
        while (message := worker.next()).topic != f"{base}/end":
            shares[-1].append(int(message.payload))
    assert sorted(number for share in shares for number in share) == list(range(30))


def expiry(version: int, seconds: int) -> dict[str, int]:
    """Session expiry, where the protocol has it; in MQTT 3.1.1 a session that is not clean lasts."""
    return {"SessionExpiryInterval": seconds} if version == V5 else {}


def reason_code(name: str):
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.reasoncodes import ReasonCode

    return ReasonCode(PacketTypes.DISCONNECT, name)
