"""Debian's mosquitto_sub and mosquitto_pub against the broker, MQTT 3.1.1 and 5.0, with client certificates."""

from __future__ import annotations

import json
import signal

import pytest
from stock import V5, V311, Mosquitto


@pytest.fixture
def mosquitto(broker, files, device, version):
    return Mosquitto(broker, files, device, version)


@pytest.fixture
def mosquitto5(broker, files, device):
    return Mosquitto(broker, files, device, V5)


@pytest.fixture
def base(device):
    return f"devices/{device}"


def published(done):
    assert (done.returncode, done.stderr) == (0, "")
    return done


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_arrives_at_its_qos(mosquitto, base, qos):
    with mosquitto.sub("-t", f"{base}/#", "-q", 2, "-C", 1) as listener:
        published(mosquitto.pub("-t", f"{base}/temperature", "-m", "21.5", "-q", qos))
        listener.expect(f"^message {base}/temperature {qos} 0 21.5$")
        assert listener.wait() == 0


@pytest.mark.parametrize(("asked", "sent", "got"), [(0, 2, 0), (1, 2, 1), (2, 1, 1)])
def test_the_lower_qos_of_subscription_and_message_counts(mosquitto, base, asked, sent, got):
    with mosquitto.sub("-t", f"{base}/#", "-q", asked) as listener:
        published(mosquitto.pub("-t", f"{base}/x", "-m", "m", "-q", sent))
        listener.expect(f"^message {base}/x {got} 0 m$")


def test_a_retained_message_waits_for_later_subscribers_until_it_is_cleared(mosquitto, base):
    published(mosquitto.pub("-t", f"{base}/state", "-m", "on", "-r", "-q", 1))
    with mosquitto.sub("-t", f"{base}/+", "-C", 1) as late:
        late.expect(f"^message {base}/state 0 1 on$")
    published(mosquitto.pub("-t", f"{base}/state", "-n", "-r", "-q", 1))
    with mosquitto.sub("-t", f"{base}/+", "-C", 1) as later:
        published(mosquitto.pub("-t", f"{base}/fence", "-m", "x"))
        later.expect("^message ")
        assert later.wait() == 0
        assert "state" not in later.out


def test_r_skips_retained_messages(mosquitto, base):
    published(mosquitto.pub("-t", f"{base}/state", "-m", "old", "-r", "-q", 1))
    with mosquitto.sub("-t", f"{base}/#", "-R", "-C", 1) as listener:
        published(mosquitto.pub("-t", f"{base}/state", "-m", "new", "-r", "-q", 1))
        assert listener.expect("^message .*").group() == f"message {base}/state 0 0 new"


def test_retained_only_and_remove_retained(mosquitto, base):
    for name in ("a", "b"):
        published(mosquitto.pub("-t", f"{base}/{name}", "-m", name, "-r", "-q", 1))
    with mosquitto.sub("-t", f"{base}/#", "--retained-only", "--remove-retained") as cleaner:
        for _ in range(2):
            cleaner.expect("received PUBACK")  # it clears each with an empty retained message of its own
    with mosquitto.sub("-t", f"{base}/#", "-C", 1) as listener:
        published(mosquitto.pub("-t", f"{base}/fence", "-m", "x"))
        assert listener.expect("^message .*").group() == f"message {base}/fence 0 0 x"


def test_the_will_of_a_client_that_breaks_off_is_published(mosquitto, base):
    will = ("--will-topic", f"{base}/status", "--will-payload", "lost", "--will-qos", 1, "--will-retain")
    with mosquitto.sub("-t", f"{base}/status", "-q", 1, "-C", 1) as watcher:
        with mosquitto.sub("-t", f"{base}/other", *will, role="doomed") as doomed:
            doomed.signal(signal.SIGKILL)
            doomed.wait()
        watcher.expect(f"^message {base}/status 1 0 lost$")
    with mosquitto.sub("-t", f"{base}/status", "-C", 1) as late:
        late.expect(f"^message {base}/status 0 1 lost$")


def test_the_will_of_a_client_that_takes_its_leave_is_not(mosquitto, base):
    with mosquitto.sub("-t", f"{base}/#", "-C", 2) as watcher:
        will = ("--will-topic", f"{base}/status", "--will-payload", "lost")
        with mosquitto.sub("-t", f"{base}/hello", *will, "-C", 1, role="polite") as polite:
            published(mosquitto.pub("-t", f"{base}/hello", "-m", "x"))
            assert polite.wait() == 0
        published(mosquitto.pub("-t", f"{base}/fence", "-m", "y"))
        assert watcher.wait() == 0
        assert "lost" not in watcher.out


def test_a_persistent_session_keeps_what_came_while_it_was_away(mosquitto, base, version):
    lasting = ("-c", "-q", 1, "-t", f"{base}/#")
    if version == V5:
        lasting += ("-x", 300)
    with mosquitto.sub(*lasting, "-E") as first:
        assert first.wait() == 0
    for number in range(20):
        published(mosquitto.pub("-t", f"{base}/n", "-m", number, "-q", 1))
    # what is queued comes before the SUBACK of the second connection
    with mosquitto.sub(*lasting, "-C", 20, subscribed=False) as again:
        assert again.wait() == 0
        got = [line.rpartition(" ")[2] for line in again.out.splitlines() if line.startswith("message ")]
    assert got == [str(number) for number in range(20)]


def test_a_shared_subscription_gives_each_message_to_one_of_the_group(mosquitto, base):
    group = ("-t", f"$share/workers/{base}/jobs", "-t", f"{base}/end", "-q", 1)
    with mosquitto.sub(*group, role="one") as one, mosquitto.sub(*group, role="two") as two:
        lines = "".join(f"{number}\n" for number in range(40))
        published(mosquitto.pub("-t", f"{base}/jobs", "-q", 1, "-l", stdin=lines))
        published(mosquitto.pub("-t", f"{base}/end", "-m", "end", "-q", 1))
        shares = []
        for worker in (one, two):
            worker.expect(f"^message {base}/end ")
            shares.append({line.split()[-1] for line in worker.out.splitlines() if f"message {base}/jobs" in line})
    assert shares[0] | shares[1] == {str(number) for number in range(40)}
    assert not shares[0] & shares[1]
    assert all(shares)


@pytest.mark.parametrize(
    ("topic_filter", "matching"),
    [("+/state", {"a/state", "b/state"}), ("a/#", {"a", "a/state", "a/b/c"}), ("+/b/+", {"a/b/c"}), ("a", {"a"})],
)
def test_wildcards(mosquitto, base, topic_filter, matching):
    topics = ["a", "a/state", "b/state", "a/b/c"]
    with mosquitto.sub("-t", f"{base}/{topic_filter}", "-t", f"{base}/fence", "-q", 1) as listener:
        for topic in topics:
            published(mosquitto.pub("-t", f"{base}/{topic}", "-m", "x", "-q", 1))
        published(mosquitto.pub("-t", f"{base}/fence", "-m", "x", "-q", 1))
        listener.expect(f"^message {base}/fence")
        got = {line.split()[1].removeprefix(f"{base}/") for line in listener.out.splitlines() if "message " in line}
    assert got == matching | {"fence"}


def test_properties_travel(mosquitto5, base):
    given = {
        "content-type": ("text/plain",),
        "response-topic": (f"{base}/answer",),
        "correlation-data": ("id-7",),
        "message-expiry-interval": ("120",),
        "payload-format-indicator": ("1",),
        "user-property": ("site", "north"),
    }
    options = [word for name, values in given.items() for word in ("-D", "publish", name, *values)]
    form = ("-F", "message type=%C answer=%R correlation=%D expiry=%E format=%F user=%P payload=%p")
    with mosquitto5.sub("-t", f"{base}/#", "-C", 1, *form) as listener:
        published(mosquitto5.pub("-t", f"{base}/x", "-m", "grüezi", *options))
        line = listener.expect("^message .*").group()
    assert "type=text/plain " in line
    assert f"answer={base}/answer " in line
    assert "correlation=id-7 " in line
    assert "format=1 " in line
    assert "user=site:north " in line
    assert line.endswith("payload=grüezi")
    assert 110 < int(line.partition("expiry=")[2].split()[0]) <= 120  # what is left of it [MQTT-3.3.2-6]


def test_subscription_identifiers_come_back(mosquitto5, base):
    identifier = ("-D", "subscribe", "subscription-identifier", "77")
    with mosquitto5.sub("-t", f"{base}/#", "-C", 1, "-F", "message %S", *identifier) as listener:
        published(mosquitto5.pub("-t", f"{base}/x", "-m", "m"))
        assert listener.expect("^message .*").group() == "message 77"


def test_a_publisher_may_use_a_topic_alias(mosquitto5, base):
    with mosquitto5.sub("-t", f"{base}/#", "-C", 3) as listener:
        lines = "one\ntwo\nthree\n"
        published(mosquitto5.pub("-t", f"{base}/alias", "-D", "publish", "topic-alias", "5", "-l", stdin=lines))
        for word in lines.split():
            listener.expect(f"^message {base}/alias 0 0 {word}$")


def test_retain_as_published(mosquitto5, base):
    with (
        mosquitto5.sub("-t", f"{base}/x", "--retain-as-published", "-C", 1) as keeps,
        mosquitto5.sub("-t", f"{base}/x", "-C", 1, role="plain") as plain,
    ):
        published(mosquitto5.pub("-t", f"{base}/x", "-m", "m", "-r"))
        keeps.expect(f"^message {base}/x 0 1 m$")
        plain.expect(f"^message {base}/x 0 0 m$")


def test_a_topic_alias_beyond_the_brokers_maximum_ends_the_connection(broker, device, mosquitto5, base):
    too_high = ("-D", "publish", "topic-alias", "65")  # CONNACK said 64
    assert mosquitto5.pub("-t", f"{base}/x", "-m", "m", "-q", 1, *too_high).returncode != 0
    ended = broker.wait_event("disconnected", client_id=f"{device}:pub")
    assert "topic alias" in ended["summary"]


def test_a_payload_up_to_the_largest_packet(broker, mosquitto, base, tmp_path, version):
    topic = f"{base}/big"
    limit = 1024 * 1024
    # fixed header 1, remaining length 3, topic length 2, packet identifier 2, in MQTT 5 the length of no properties 1;
    # the broker's maximum packet size counts all of them
    overhead = 1 + 3 + 2 + len(topic) + 2 + (1 if version == V5 else 0)
    file = tmp_path / "payload"
    file.write_bytes(b"\xa5" * (limit - overhead))
    with mosquitto.sub("-t", topic, "-q", 1, "-C", 1, "-F", "message %l") as listener:
        published(mosquitto.pub("-t", topic, "-f", file, "-q", 1))
        assert listener.expect("^message .*").group() == f"message {limit - overhead}"
    file.write_bytes(b"\xa5" * (limit - overhead + 1))
    assert mosquitto.pub("-t", topic, "-f", file, "-q", 1, role="toolarge").returncode != 0
    if version == V311:  # in MQTT 5 the client has read the limit in CONNACK and does not send
        ended = broker.wait_event("disconnected", client_id=f"{base.removeprefix('devices/')}:toolarge")
        assert ended["cause"] == "packet-too-large"


def test_ten_thousand_messages_arrive_in_order(mosquitto, base):
    count = 10_000
    with mosquitto.sub("-t", f"{base}/n", "-q", 1, "-C", count, "-F", "message %p") as listener:
        lines = "".join(f"{number}\n" for number in range(count))
        published(mosquitto.pub("-t", f"{base}/n", "-q", 1, "-l", stdin=lines))
        assert listener.wait(40) == 0
        got = [int(line.split()[1]) for line in listener.out.splitlines() if line.startswith("message ")]
    assert got == list(range(count))


def test_a_denied_topic_is_said_in_mqtt_5(mosquitto5, broker):
    done = mosquitto5.pub("-t", "devices/somebody-else/x", "-m", "m", "-q", 1)
    assert "Not authorized" in done.stderr + done.stdout
    denied = broker.wait_event("denied", topic="devices/somebody-else/x")
    assert denied["action"] == "publish"


def test_json_of_mosquitto_sub_names_what_was_sent(mosquitto5, base):
    with mosquitto5.sub("-t", f"{base}/#", "-C", 1, "-F", "message %j") as listener:
        published(mosquitto5.pub("-t", f"{base}/x", "-m", "21.5", "-q", 1, "-D", "publish", "content-type", "a/b"))
        record = json.loads(listener.expect("^message (.*)").group(1))
    assert record["topic"] == f"{base}/x"
    assert record["payload"] == "21.5"
