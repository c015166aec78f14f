//! Whatever a peer sends in place of an HTTP head, the upgrade is accepted, refused or waits for more, within its bounds;
//! more bytes never change what was said; and every answer is a whole HTTP head of ours.
//!
//! Refuses to know frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealmq_node::http::{Answer, HttpLimits, Upgrade, UpgradeRules, accept_response, upgrade};

fuzz_target!(|data: &[u8]| {
    let [first, bytes @ ..] = data else { return };
    let cut = bytes.len() * usize::from(*first) / 256;
    let origins = ["https://panel.example".to_string()];
    let rules = UpgradeRules {
        path: "/mqtt",
        origins: &origins,
        limits: HttpLimits {
            header_bytes: 1024,
            headers: 16,
        },
    };
    let whole = upgrade(bytes, &rules);
    let early = upgrade(&bytes[..cut], &rules);
    assert!(early == Upgrade::NeedMore || early == whole, "{early:?} became {whole:?}");
    match &whole {
        Upgrade::NeedMore => assert!(bytes.len() <= rules.limits.header_bytes, "it waits for more than it takes"),
        Upgrade::Accept { consumed, response } => {
            assert!(*consumed <= bytes.len() && *consumed <= rules.limits.header_bytes);
            assert!(response.starts_with(b"HTTP/1.1 101 ") && response.ends_with(b"\r\n\r\n"));
        }
        Upgrade::Refuse {
            response,
            cause,
            sentence,
            ..
        } => {
            let head = response.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
            let lines = response[..head].split(|&b| b == b'\n').count();
            assert!((2..10).contains(&lines), "the peer wrote lines of our head");
            assert!(!cause.is_empty() && !sentence.contains(['\n', '\r']), "{sentence:?}");
        }
    }
    match accept_response(bytes, &[7; 16]) {
        Answer::NeedMore => assert!(bytes.len() <= HttpLimits::default().header_bytes),
        Answer::Open { consumed } => assert!(consumed <= bytes.len()),
        Answer::Refused { sentence, .. } => assert!(!sentence.contains(['\n', '\r']), "{sentence:?}"),
    }
});
