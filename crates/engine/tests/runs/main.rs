//! Packets as they come, many in one read, and the same packets one by one: two brokers must not differ in anything that
//! anybody sees.
//!
//! Refuses to know what is right; that is for the scenarios. Everything here is about runs of packets that the engine carries
//! out together, and about what cuts them: another topic, QoS or identifier, a reason code, a subscription, rules or limits
//! that change, a window, a quota, memory, a turn, an outbox or a read that is at its end, a store that is late, full or
//! broken.
//!
//! `SEALMQ_RUN_SEED=7 cargo test -p sealmq-engine --test runs` tells one story; `SEALMQ_RUN_SEEDS=10000` tells many, from
//! `SEALMQ_RUN_FROM` on.

mod client;
#[path = "../sim/dice.rs"]
mod dice;
#[path = "../harness/mod.rs"]
mod harness;
mod speech;
mod story;
mod twin;

const KEPT: bool = false;

use story::Story;

#[test]
fn packets_in_one_read_are_what_they_are_one_by_one() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("SEALMQ_RUN_SEED") {
        return Story::new(seed).tell();
    }
    let from = number("SEALMQ_RUN_FROM").unwrap_or(0);
    for seed in from..from + number("SEALMQ_RUN_SEEDS").unwrap_or(1000) {
        if let Err(cause) = std::panic::catch_unwind(|| Story::new(seed).tell()) {
            eprintln!("SEALMQ_RUN_SEED={seed}");
            std::panic::resume_unwind(cause);
        }
    }
}
