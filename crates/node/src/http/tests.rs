use super::*;

const RULES: UpgradeRules<'static> = UpgradeRules {
    path: "/mqtt",
    origins: &[],
    limits: HttpLimits {
        header_bytes: 8192,
        headers: 64,
    },
};
const GOOD: [&str; 7] = [
    "GET /mqtt HTTP/1.1",
    "Host: broker.test:8084",
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: mqttv3.1, mqtt",
];

fn lines(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// The good request with the line that begins like `line` replaced by it, or with it added.
fn with(line: &str) -> Vec<u8> {
    let name = line.split([':', ' ']).next().unwrap();
    let kept = GOOD.iter().copied().filter(|good| !good.starts_with(name));
    let mut all: Vec<&str> = kept.collect();
    let at = if all[0].starts_with("GET") { all.len() } else { 0 };
    all.insert(at, line);
    lines(&all)
}

fn without(name: &str) -> Vec<u8> {
    lines(
        &GOOD
            .into_iter()
            .filter(|line| !line.starts_with(name))
            .collect::<Vec<_>>(),
    )
}

fn plus(line: &str) -> Vec<u8> {
    lines(&[&GOOD[..], &[line]].concat())
}

fn refusal(bytes: &[u8], rules: &UpgradeRules<'_>) -> (String, &'static str) {
    match upgrade(bytes, rules) {
        Upgrade::Refuse {
            response,
            cause,
            sentence,
            mend,
        } => {
            let text = String::from_utf8(response).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains("Connection: close"));
            assert!(body == format!("{sentence}\nmend: {mend}\n") && !sentence.ends_with('.'));
            (head.to_string(), cause)
        }
        other => panic!("not refused: {other:?} for {}", String::from_utf8_lossy(bytes)),
    }
}

fn cause(bytes: &[u8]) -> &'static str {
    refusal(bytes, &RULES).1
}

fn accepted(bytes: &[u8]) -> bool {
    matches!(upgrade(bytes, &RULES), Upgrade::Accept { .. })
}

#[test]
fn the_example_of_rfc_6455_is_accepted_at_its_last_byte() {
    let whole = lines(&GOOD);
    for end in 0..whole.len() {
        assert_eq!(upgrade(&whole[..end], &RULES), Upgrade::NeedMore, "{end}");
    }
    let followed = [whole.as_slice(), b"\x82\x80frames"].concat();
    let Upgrade::Accept { consumed, response } = upgrade(&followed, &RULES) else {
        panic!("refused")
    };
    assert_eq!(consumed, whole.len());
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && response.ends_with("\r\n\r\n"));
    assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(response.contains("Sec-WebSocket-Protocol: mqtt\r\n")); // [MQTT-6.0.0-4] of both
}

#[test]
fn what_other_clients_write_is_accepted() {
    for line in [
        "GET /mqtt?client=7 HTTP/1.1",
        "GET https://broker.test:8084/mqtt HTTP/1.1",
        "Upgrade: WebSocket",
        "Connection: UPGRADE",
        "Sec-WebSocket-Protocol: mqtt",
        "Origin: https://Broker.test:8443",
        "Origin: https://broker.test",
        "Content-Length: 0",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ] {
        assert!(accepted(&with(line)), "{line}");
    }
    let split = [
        &GOOD[..6],
        &["sec-websocket-protocol: chat", "SEC-WEBSOCKET-PROTOCOL:mqtt"],
    ]
    .concat();
    assert!(accepted(&lines(&split)));
}

#[test]
fn each_refusal_has_its_cause_and_status() {
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"\x10\x0c\0\x04MQTT".to_vec(), "400", "http-malformed"),
        (b"PRI * HTTP/2.0\r\n\r\n".to_vec(), "400", "http-malformed"),
        (with("GET /mqtt HTTP/1.0"), "400", "http-version"),
        (lines(&["POST /mqtt HTTP/1.1", "Host: a"]), "405", "http-method"),
        (with("GET / HTTP/1.1"), "404", "http-path"),
        (with("GET /mqttx HTTP/1.1"), "404", "http-path"),
        (without("Host"), "400", "http-host"),
        (plus("Host: other"), "400", "http-host"),
        (plus("Content-Length: 5"), "400", "http-body"),
        (plus("Transfer-Encoding: chunked"), "400", "http-body"),
        (without("Upgrade"), "426", "websocket-missing"),
        (with("Connection: close"), "426", "websocket-missing"),
        (without("Sec-WebSocket-Version"), "426", "websocket-version"),
        (with("Sec-WebSocket-Version: 8"), "426", "websocket-version"),
        (without("Sec-WebSocket-Key"), "400", "websocket-key"),
        (with("Sec-WebSocket-Key: c2hvcnQ="), "400", "websocket-key"),
        (
            plus("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
            "400",
            "websocket-key",
        ),
        (without("Sec-WebSocket-Protocol"), "400", "websocket-subprotocol"), // [MQTT-6.0.0-3] of both
        (with("Sec-WebSocket-Protocol: mqttv3.1"), "400", "websocket-subprotocol"),
    ];
    for (bytes, status, expected) in cases {
        let (head, cause) = refusal(&bytes, &RULES);
        assert_eq!(cause, expected, "{}", String::from_utf8_lossy(&bytes));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    assert!(
        refusal(&with("Sec-WebSocket-Version: 8"), &RULES)
            .0
            .contains("\r\nSec-WebSocket-Version: 13\r\n")
    );
    assert!(
        refusal(&lines(&["PUT / HTTP/1.1"]), &RULES)
            .0
            .contains("\r\nAllow: GET\r\n")
    );
}

#[test]
fn a_page_of_another_host_gets_no_websocket() {
    let origins = ["https://panel.example".to_string()];
    let rules = UpgradeRules {
        origins: &origins,
        ..RULES
    };
    assert_eq!(
        refusal(&plus("Origin: https://evil.example"), &rules).1,
        "websocket-origin"
    );
    for foreign in [
        "null",
        "http://broker.test",
        "https://broker.test.evil.example",
        "https://evil.example:8084",
        "https://[::1]",
    ] {
        assert_eq!(
            cause(&plus(&format!("Origin: {foreign}"))),
            "websocket-origin",
            "{foreign}"
        );
    }
    for good in [plus("Origin: https://panel.example"), lines(&GOOD)] {
        assert!(matches!(upgrade(&good, &rules), Upgrade::Accept { .. }));
    }
}

#[test]
fn size_and_count_are_bounded() {
    let filler = format!("X: {}", "a".repeat(9_000));
    assert_eq!(cause(&plus(&filler)), "http-too-large");
    assert_eq!(cause(&[b'\n'; 8192]), "http-too-large");
    assert_eq!(cause(&plus(&vec!["A: b"; 59].join("\r\n"))), "http-too-large");
    assert!(accepted(&plus(&vec!["A: b"; 58].join("\r\n"))));
    let small = UpgradeRules {
        limits: HttpLimits {
            header_bytes: lines(&GOOD).len(),
            headers: 6,
        },
        ..RULES
    };
    assert!(matches!(upgrade(&lines(&GOOD), &small), Upgrade::Accept { .. }));
    assert!(matches!(
        upgrade(&plus("A: b"), &small),
        Upgrade::Refuse {
            cause: "http-too-large",
            ..
        }
    ));
}

#[test]
fn what_a_peer_wrote_is_quoted_short() {
    let Upgrade::Refuse { sentence, .. } = upgrade(&with(&format!("GET /{} HTTP/1.1", "x".repeat(5_000))), &RULES)
    else {
        panic!()
    };
    assert!(sentence.len() < 120, "{sentence}");
}

#[test]
fn both_sides_agree() {
    let key = *b"the sample nonce";
    let request = request("broker.test:8084", "/mqtt", &key).unwrap();
    let Upgrade::Accept { response, .. } = upgrade(&request, &RULES) else {
        panic!("refused")
    };
    for end in 0..response.len() {
        assert_eq!(accept_response(&response[..end], &key), Answer::NeedMore, "{end}");
    }
    let followed = [response.as_slice(), b"\x82\0"].concat();
    assert_eq!(
        accept_response(&followed, &key),
        Answer::Open {
            consumed: response.len()
        }
    );
    assert!(matches!(
        accept_response(&response, &[0; 16]),
        Answer::Refused {
            cause: "websocket-key",
            ..
        }
    ));
}

#[test]
fn an_answer_that_is_no_mqtt_websocket_is_refused() {
    let key = *b"the sample nonce";
    let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    assert_eq!(
        accept_response(good.as_bytes(), &key),
        Answer::Open { consumed: good.len() }
    );
    let cases = [
        (good.replace("101 Switching Protocols", "403 Forbidden"), "http-status"),
        (good.replace("HTTP/1.1", "SSH-2.0 "), "http-malformed"),
        (good.replace("Upgrade: websocket\r\n", ""), "websocket-missing"),
        (good.replace("Connection: Upgrade\r\n", ""), "websocket-missing"),
        (good.replace("s3pP", "S3PP"), "websocket-key"),
        (good.replace(": mqtt", ": mqttv3.1"), "websocket-subprotocol"),
        (
            good.replace("Sec-WebSocket-Protocol: mqtt\r\n", ""),
            "websocket-subprotocol",
        ),
        (
            good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            "websocket-extension",
        ),
        (
            good.replace("\r\n\r\n", &format!("\r\nA: {}\r\n\r\n", "b".repeat(9_000))),
            "http-too-large",
        ),
    ];
    for (answer, expected) in cases {
        let Answer::Refused { cause, sentence } = accept_response(answer.as_bytes(), &key) else {
            panic!("{answer}")
        };
        assert_eq!(cause, expected, "{answer}");
        assert!(!sentence.contains("  "));
    }
    let forbidden = accept_response(b"HTTP/1.1 403 Forbidden\r\n\r\n", &key);
    assert_eq!(
        forbidden,
        Answer::Refused {
            cause: "http-status",
            sentence: "server answered 403 Forbidden to the WebSocket request".into()
        }
    );
}

#[test]
fn a_request_line_cannot_be_broken_out_of() {
    let key = [0; 16];
    for host in ["", "a b", "a\r\nX: y", "a/b", "user@host", "höst"] {
        assert_eq!(request(host, "/mqtt", &key), Err(UrlFault::Host), "{host}");
    }
    for path in ["", "mqtt", "/a b", "/a\r\nX: y", "/a#b", "/ü"] {
        assert_eq!(request("host", path, &key), Err(UrlFault::Path), "{path}");
    }
    assert!(request("[::1]:8084", "/mqtt?x=%20", &key).is_ok());
}

#[test]
fn changed_and_random_bytes_never_panic() {
    let good = lines(&GOOD);
    for at in 0..good.len() {
        for value in [0, b'\r', b'\n', b' ', b':', 0x80, 0xff] {
            let mut changed = good.clone();
            changed[at] = value;
            let _ = (upgrade(&changed, &RULES), accept_response(&changed, &[1; 16]));
        }
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..5_000 {
        let noise: Vec<u8> = (0..64)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let request = [b"GET /mqtt HTTP/1.1\r\n".as_slice(), &noise].concat();
        assert!(!accepted(&request) && !accepted(&noise));
    }
}
