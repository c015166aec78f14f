//! Pre-shared keys at the gate: how such a connection begins, and in words why one was refused.
//!
//! Refuses to know the handshake. What tells an unknown identity from a wrong key stays in these records: on the network
//! both look the same (RFC 9257 section 7.1).

use super::causes::defect;
use crate::hello::ClientHello;
use crate::link::Channel;
use crate::node::Settings;
use crate::psk::{Claim, Claimant, KeyLogging, PskFault};
use crate::refusal::{Refusal, Stage};

/// handshake_failure (RFC 8446 section 6.2).
pub(super) const NO_KEY_ALERT: u8 = 40;

/// The server's side of a connection to a listener of pre-shared keys.
pub(super) fn accept(settings: &Settings, hello: &ClientHello, is_recorded: bool) -> Result<Channel, Refusal> {
    let keys = settings
        .psk
        .as_ref()
        .ok_or_else(|| defect("listener of pre-shared keys has no keys"))?;
    let logging = match is_recorded {
        true => KeyLogging::Recorded,
        false => KeyLogging::Off,
    };
    let psk = keys.accept(hello, logging);
    let psk = psk.map_err(|e| defect(&format!("TLS could not begin: {e}")))?;
    Ok(Channel::PreSharedKey(Box::new(psk)))
}

/// Neither a key nor a suite that has one.
pub(super) fn no_key() -> Refusal {
    Refusal::new(
        Stage::Handshake,
        "no-pre-shared-key",
        "client offers no pre-shared key, and this listener has no certificate to show",
        "give the client the line of its psk.txt (`sealmq device add ID --psk`); certificates have the mqtts listener",
    )
}

pub(super) fn from_psk(fault: &PskFault) -> Refusal {
    match fault {
        PskFault::DifferentKeys(Claim { identity, claimant }) => match claimant {
            Claimant::Known(_) => Refusal::new(
                Stage::Handshake,
                "psk-wrong-key",
                format!("client says it is {identity} and has another key than that device"),
                "copy the line of psk.txt to the device anew; its key is hexadecimal digits, not text",
            ),
            Claimant::Unknown => Refusal::new(
                Stage::Handshake,
                "psk-unknown-identity",
                format!("client says it is {identity}, for which there is no pre-shared key"),
                "make one with `sealmq device add ID --psk`; the identity is what stands before the colon in psk.txt",
            ),
            Claimant::Revoked => Refusal::revoked_key(identity),
        },
        PskFault::Alert(number) => Refusal::new(
            Stage::Handshake,
            "client-ended-handshake",
            format!("client ended the handshake with alert {number}"),
            "look at the client's own error: it knows why",
        ),
        PskFault::Impostor | PskFault::Certificate | PskFault::Broken(_) => Refusal::new(
            Stage::Handshake,
            "handshake-broken",
            format!("client broke the TLS handshake: {}", fault.reason()),
            "check what speaks on the other side; a proxy that alters TLS looks like this",
        ),
    }
}
