//! The causes that the gate itself finds, in words: who left early, who stalled, whose CONNECT cannot be read.

use super::Step;
use super::addresses::Objection;
use crate::config::NodeLimits;
use crate::refusal::{Refusal, Stage};
use rustls::Error as TlsError;
use sealmq_codec::Fault;
use std::net::IpAddr;

pub(super) fn bad_connect(fault: Fault) -> Refusal {
    let mend = match fault {
        Fault::UnsupportedProtocolLevel(_) => "use MQTT 3.1.1 or 5.0",
        Fault::PacketTooLarge { .. } => "send a smaller will or password, or raise limits.max_connect_bytes",
        _ => "look at the client library: its CONNECT breaks the specification",
    };
    Refusal::new(
        Stage::Connect,
        fault.slug(),
        format!("CONNECT cannot be read: {fault}"),
        mend,
    )
}

pub(super) fn internal(error: &TlsError) -> Refusal {
    defect(&format!("TLS could not begin: {error}"))
}

/// Not the peer's fault, or not only.
pub(super) fn defect(sentence: &str) -> Refusal {
    Refusal::new(
        Stage::Handshake,
        "internal",
        sentence,
        "report this as a defect, with this record",
    )
}

/// A peer that left before its ClientHello was whole.
pub(super) fn closed_early(how: &str, received: usize) -> Refusal {
    if received == 0 {
        return Refusal::new(
            Stage::Tcp,
            "port-scan",
            format!("{how} without sending anything"),
            "nothing to mend if this was a port scan or a health check by TCP; a client would have sent a ClientHello",
        );
    }
    Refusal::new(
        Stage::ClientHello,
        "client-hello-incomplete",
        format!("{how} after {received} bytes, before its ClientHello was whole"),
        "look for a network that cuts connections, or a client that crashed",
    )
}

pub(super) fn unfinished(step: Step, how: &str, received: usize) -> Refusal {
    match step {
        Step::Http => Refusal::new(
            Stage::Http,
            "closed-before-upgrade",
            format!("{how} before it asked for a WebSocket"),
            "ask for a WebSocket at /mqtt with the subprotocol mqtt",
        ),
        Step::Connect => Refusal::new(
            Stage::Connect,
            "closed-before-connect",
            format!("{how} before it sent a whole CONNECT"),
            "a test of the port looks like this; an MQTT client sends CONNECT",
        ),
        Step::Login => Refusal::new(
            Stage::Connect,
            "closed-before-connack",
            format!("{how} while its password was verified"),
            "look for a client that waits for less than a login takes; many logins at once, or dear hashes, take long",
        ),
        _ => Refusal::new(
            Stage::Handshake,
            "closed-during-handshake",
            format!("{how} during the TLS handshake, {received} bytes in, without an alert"),
            "the client may distrust this broker's certificate: give it the CA (`sealmq ca export`) and connect by a name in the certificate",
        ),
    }
}

pub(super) fn stalled(step: Step, received: usize) -> Refusal {
    match step {
        Step::Hello => Refusal::new(
            Stage::ClientHello,
            "handshake-stalled",
            format!("peer sent {received} bytes and no whole ClientHello within limits.handshake_timeout_ms"),
            "a TLS client speaks first and at once; a silent or dripping peer is no client, or its network is broken",
        ),
        Step::Http => Refusal::new(
            Stage::Http,
            "upgrade-stalled",
            "peer finished the TLS handshake and sent no whole upgrade request in time",
            "ask for a WebSocket at /mqtt with the subprotocol mqtt",
        ),
        Step::Connect => Refusal::new(
            Stage::Connect,
            "connect-stalled",
            "peer sent no whole CONNECT within limits.connect_timeout_ms",
            "an MQTT client sends CONNECT at once",
        ),
        Step::Login => Refusal::new(
            Stage::Connect,
            "login-stalled",
            "password was not verified within limits.connect_timeout_ms",
            "too many logins wait, or their hashes ask for much: raise the limit, or add users with cheaper hashes",
        ),
        _ => Refusal::new(
            Stage::Handshake,
            "handshake-stalled",
            format!("TLS handshake did not end within limits.handshake_timeout_ms, {received} bytes in"),
            "look for packet loss, a path MTU problem, or a device that needs longer: limits.handshake_timeout_ms",
        ),
    }
}

/// The line before the verification of passwords is full.
pub(super) fn too_many_logins() -> Refusal {
    Refusal::new(
        Stage::Connect,
        "too-many-logins",
        "too many passwords wait to be verified",
        "look for a flood of logins in the records around this one; certificates cost the broker less than passwords",
    )
}

/// Before a byte was read.
pub(super) fn turned_away(objection: Objection, peer: IpAddr, limits: &NodeLimits) -> Refusal {
    let (cause, sentence, mend) = match objection {
        Objection::Broker => (
            "too-many-connections",
            format!("broker has {} connections already", limits.max_connections),
            "raise limits.max_connections, or find out who connects so often",
        ),
        Objection::Address => (
            "too-many-from-address",
            format!("{peer} has {} connections already", limits.max_connections_per_address),
            "raise limits.max_connections_per_address if a gateway or load balancer stands there, else find out what connects so often",
        ),
        Objection::Pace => (
            "connecting-too-fast",
            format!(
                "{peer} opens more than {} connections a second",
                limits.max_connect_rate_per_address
            ),
            "raise limits.max_connect_rate_per_address if a gateway or load balancer stands there, else let clients wait longer between attempts",
        ),
        Objection::Memory => (
            "memory-full",
            "broker has no memory for another connection".into(),
            "find who fills it with `sealmq status`, or raise limits.max_memory_bytes",
        ),
    };
    Refusal::new(Stage::Tcp, cause, sentence, mend)
}

/// More than any handshake needs.
pub(super) fn too_much_handshake(received: usize, limit: u32) -> Refusal {
    Refusal::new(
        Stage::Handshake,
        "handshake-too-large",
        format!("peer sent {received} bytes and its handshake has not ended; limits.max_handshake_bytes is {limit}"),
        "a client with a very long certificate chain needs limits.max_handshake_bytes raised; anybody else is no client",
    )
}

/// A WebSocket without MQTT in it, or TLS records without a CONNECT.
pub(super) fn too_much_before_connect(received: usize) -> Refusal {
    Refusal::new(
        Stage::Connect,
        "too-much-before-connect",
        format!("peer sent {received} bytes and no whole CONNECT, which is more than one may have"),
        "an MQTT client sends CONNECT at once; one with a very long will or password needs limits.max_connect_bytes raised",
    )
}

/// It got no further, and others wait.
pub(super) fn crowded_out(step: Step, received: usize) -> Refusal {
    let refusal = Refusal::new(
        Stage::ClientHello,
        "crowded-out",
        format!(
            "peer had sent {received} bytes and then nothing when limits.max_handshakes was reached and others came"
        ),
        "look for a flood of such connections in the records around this one; a client goes on at once",
    );
    match step {
        Step::Http => Refusal {
            stage: Stage::Http,
            ..refusal
        },
        Step::Connect => Refusal {
            stage: Stage::Connect,
            ..refusal
        },
        _ => refusal,
    }
}
