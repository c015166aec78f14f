//! Shared subscriptions (section 4.8.2): one of the group, whoever is there.
//!
//! Refuses to know plain subscriptions beyond their coexistence.

use crate::harness::{Bench, Client, filter, message};
use sealmq_codec::{Packet, ReasonCode};

fn member(bench: &Bench, id: &str, text: &str) -> Client {
    let mut client = bench.connect(id).resume(60).go();
    client.subscribe(text, 1);
    client
}

fn publish(bench: &Bench, count: usize) {
    let mut p = bench.connect("p").go();
    for n in 0..count {
        p.publish(message("t/x", n.to_string()).qos(1));
    }
}

// Section 4.8.2: each message to one member; all of them get their part
#[test]
fn messages_are_spread_over_the_group() {
    let bench = Bench::new();
    let members = ["a", "b", "c"].map(|id| member(&bench, id, "$share/g/t/#"));
    publish(&bench, 30);
    let shares = members.each_ref().map(|m| m.payloads());
    assert_eq!(shares.each_ref().map(Vec::len), [10; 3]);
    let mut all: Vec<usize> = shares.concat().iter().map(|t| t.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
}

// Section 4.8.2: groups are apart from each other, from other filters, and from plain subscriptions
#[test]
fn groups_do_not_take_from_each_other() {
    let bench = Bench::new();
    let clients = [
        ("a", "$share/g/t/#"),
        ("b", "$share/h/t/#"),
        ("c", "t/#"),
        ("d", "$share/g/t/+"),
    ]
    .map(|(id, f)| member(&bench, id, f));
    publish(&bench, 5);
    assert_eq!(clients.each_ref().map(|c| c.payloads().len()), [5; 4]);
}

// A client that is in the group and subscribes plainly gets both
#[test]
fn a_member_with_a_plain_subscription_gets_both() {
    let bench = Bench::new();
    let mut a = member(&bench, "a", "$share/g/t/#");
    a.subscribe("t/x", 1);
    publish(&bench, 1);
    assert_eq!(a.payloads(), ["0", "0"]);
}

// Who is connected comes first; when nobody is, a session keeps it
#[test]
fn offline_members_get_messages_only_when_nobody_is_there() {
    let bench = Bench::new();
    let (a, b) = (member(&bench, "a", "$share/g/t/#"), member(&bench, "b", "$share/g/t/#"));
    a.vanish();
    publish(&bench, 4);
    assert_eq!(b.payloads(), ["0", "1", "2", "3"]);
    b.vanish();
    publish(&bench, 4);
    let back = ["a", "b"].map(|id| bench.connect(id).resume(60).go());
    let counts = back.each_ref().map(|c| {
        c.all()
            .iter()
            .filter(|p| matches!(p, Packet::Publish(m) if !m.dup))
            .count()
    });
    assert_eq!(counts.iter().sum::<usize>(), 4, "{counts:?}");
}

// Section 4.8.2: no retained messages
#[test]
fn a_shared_subscription_brings_no_retained_messages() {
    let bench = Bench::new();
    bench.connect("p").go().publish(message("t/x", "kept").retain());
    member(&bench, "a", "$share/g/t/#").silent();
}

// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
#[test]
fn a_malformed_share_is_refused() {
    let bench = Bench::new();
    let mut a = bench.connect("a").go();
    let filters = [
        "$share/g",
        "$share//t",
        "$share/g+/t",
        "$share/g#/t",
        "$share/g/",
        "$share/g/t#",
    ]
    .map(|f| filter(f, 0));
    assert_eq!(a.subscribe_all(0, &filters), [ReasonCode::TopicFilterInvalid as u8; 6]);
}

// [MQTT-4.8.2-3]: each at the QoS it was granted
#[test]
fn a_member_gets_no_more_than_its_qos() {
    let bench = Bench::new();
    let members = [0, 1, 2].map(|qos| {
        let mut client = bench.connect(&format!("m{qos}")).go();
        client.subscribe("$share/g/t/#", qos);
        client
    });
    let mut p = bench.connect("p").go();
    for _ in 0..9 {
        p.publish(message("t/x", "x").qos(2));
    }
    for (qos, member) in members.iter().enumerate() {
        let heard: Vec<usize> = (0..3).map(|_| member.receive().qos as usize).collect();
        assert_eq!(heard, [qos; 3]);
    }
}

// [MQTT-4.8.2-4], [MQTT-4.8.2-5]: a QoS 2 delivery stays with the member that it was begun with, and ends with it
#[test]
fn a_qos_2_delivery_does_not_move_to_another_member() {
    let bench = Bench::new();
    let mut a = bench.connect("a").resume(60).go();
    a.subscribe("$share/g/t/#", 2);
    let mut p = bench.connect("p").go();
    p.publish(message("t/x", "completed").qos(2));
    a.hears("t/x", "completed");
    let mut b = bench.connect("b").resume(60).go();
    b.subscribe("$share/g/t/#", 2);
    a.vanish();
    bench.advance(30_000);
    b.silent();
    let a = bench.connect("a").resume(60).go();
    let again = a.hears("t/x", "completed");
    a.pubrec(again.packet_id);
    a.expect_pubrel(again.packet_id, 0);
    a.pubcomp(again.packet_id);
    b.vanish();
    p.publish(message("t/x", "lost").qos(2));
    a.hears("t/x", "lost");
    let b = bench.connect("b").resume(60).go();
    a.vanish();
    bench.advance(60_000);
    assert_eq!(bench.drive(|e, _| e.counters().sessions_expired), 1);
    b.silent();
}

// [MQTT-4.8.2-6]
#[test]
fn what_a_member_rejects_goes_to_nobody_else() {
    let bench = Bench::new();
    let [a, b] = ["a", "b"].map(|id| {
        let mut client = bench.connect(id).go();
        client.subscribe("$share/g/t/#", 2);
        client
    });
    let mut p = bench.connect("p").go();
    for qos in [1, 2] {
        p.publish(message("t/x", "x").qos(qos));
        p.publish(message("t/x", "x").qos(qos));
        for member in [&a, &b] {
            let id = member.receive().packet_id;
            match qos {
                1 => member.puback_failing(id, ReasonCode::ImplementationSpecificError),
                _ => member.pubrec_failing(id, ReasonCode::ImplementationSpecificError),
            }
        }
        a.silent();
        b.silent();
    }
}

#[test]
fn leaving_the_group_leaves_it_to_the_others() {
    let bench = Bench::new();
    let mut a = member(&bench, "a", "$share/g/t/#");
    let b = member(&bench, "b", "$share/g/t/#");
    assert_eq!(a.unsubscribe(&["$share/g/t/#"]).codes, [0]);
    publish(&bench, 3);
    assert_eq!((a.payloads().len(), b.payloads().len()), (0, 3));
    b.vanish();
    bench.advance(60_000);
    assert_eq!(bench.drive(|e, _| e.gauges().subscriptions), 0);
}
