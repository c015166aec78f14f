//! Whatever a peer opens with, the first look says what it is or asks for more, within its bounds, and bytes that come later
//! never turn what is TLS into what is not, nor back.
//!
//! Refuses to know TLS beyond the first message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealmq_node::hello::{HelloLimits, Policy, Sniff, sniff};

const POLICY: Policy<'static> = Policy {
    tls13_suites: &[0x1301, 0x1302, 0x1303],
    tls12_suites: &[0xc02b, 0xc02f],
    groups: &[0x001d, 0x0017, 0x11ec],
    signature_algorithms: &[0x0403, 0x0804],
    alpn: &[b"mqtt"],
};

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else { return };
    let limits = HelloLimits { total: 4096 };
    let found = sniff(bytes, limits);
    let cut = bytes.len() * usize::from(first) / 256;
    let early = sniff(&bytes[..cut], limits);
    // What is not TLS is told by as few bytes as it takes, and may turn out to be something else that is not TLS.
    let is_alike = early == found || matches!((&early, &found), (Sniff::NotTls(_), Sniff::NotTls(_)));
    assert!(early == Sniff::NeedMore || is_alike, "{early:?} became {found:?}");
    match &found {
        Sniff::NeedMore => assert!(bytes.len() <= limits.total, "it waits for more than it takes"),
        Sniff::Hello(hello) => {
            assert!(hello.wire_bytes <= bytes.len() && hello.wire_bytes <= limits.total && hello.records > 0);
            assert_eq!(hello.alpn_text().len(), hello.alpn.len());
            let verdict = hello.judge(&POLICY);
            assert_eq!(verdict, hello.judge(&POLICY));
            let is_plain = |name: &String| name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
            assert!(hello.server_name.as_ref().is_none_or(is_plain), "{:?} is not fit to print", hello.server_name);
            let _ = (hello.highest_version(), hello.record_limit(), hello.handshake_record_limit());
        }
        Sniff::NotTls(first) => assert!(!first.sentence().is_empty()),
        Sniff::Malformed(fault) => assert!(!fault.sentence().is_empty()),
    }
});
