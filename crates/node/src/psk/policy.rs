//! The policy of pre-shared keys: versions, suites, groups, in the library's names and in numbers.
//!
//! Refuses to know keys. What is held against a ClientHello and what the library is told are the same lists.

use crate::hello::{ClientHello, Policy};

/// Forward secrecy first, then what costs a small device least; the short tag of CCM-8 (RFC 6655) and CBC come last.
/// OpenSSL knows no AES-GCM with ECDHE-PSK (RFC 8442).
pub(super) const TLS12: &str = "ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES128-CBC-SHA256:\
    PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384:PSK-CHACHA20-POLY1305:PSK-AES128-CCM:PSK-AES256-CCM:\
    PSK-AES128-CCM8:PSK-AES256-CCM8:PSK-AES128-CBC-SHA256:@SECLEVEL=0";
const TLS12_NUMBERS: [u16; 10] = [
    0xccac, 0xc037, 0x00a8, 0x00a9, 0xccab, 0xc0a4, 0xc0a5, 0xc0a8, 0xc0a9, 0x00ae,
];
/// With SHA-256 alone: the hash of a key that was given without one (RFC 8446 section 4.2.11).
pub(super) const TLS13: &str =
    "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256";
const TLS13_NUMBERS: [u16; 4] = [0x1301, 0x1303, 0x1304, 0x1305];
/// P-256 first: it is what a client gets that names no group, as in TLS 1.2 it may, and not every small one has X25519.
pub(super) const GROUPS: &str = "P-256:X25519:P-384";
const GROUP_NUMBERS: [u16; 3] = [0x0017, 0x001d, 0x0018];

/// What a ClientHello is held against before the TLS library sees it.
///
/// A client that shows no key in its ClientHello may still have one for TLS 1.2, where it is named later; with TLS 1.3 there
/// would be nothing to know us by.
pub fn policy(hello: &ClientHello) -> Policy<'static> {
    Policy {
        tls13_suites: if hello.psk_identities > 0 { &TLS13_NUMBERS } else { &[] },
        tls12_suites: &TLS12_NUMBERS,
        groups: &GROUP_NUMBERS,
        signature_algorithms: &[],
        alpn: &[b"mqtt"],
    }
}

/// Whether a ClientHello shows a pre-shared key, or a suite of TLS 1.2 that has one.
pub fn offers_psk(hello: &ClientHello) -> bool {
    hello.psk_identities > 0 || hello.cipher_suites.iter().any(|id| TLS12_NUMBERS.contains(id))
}
