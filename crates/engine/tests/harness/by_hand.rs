//! Brokers whose log a scenario moves by hand: nothing is safe before it says so.
//!
//! Refuses to know what is promised when.

use crate::harness::{Bench, Client, HandLog, filter, quiet};
use sealmq_codec::Packet;
use sealmq_engine::Limits;
use sealmq_engine::rules::Rules;

/// A broker with such a log.
pub fn bench(limits: Limits) -> (Bench, HandLog) {
    let log = HandLog::default();
    let bench = Bench::with_log(limits, Rules::dangerous_allow_all(), Box::new(log.clone()));
    (bench, log)
}

/// The broker hears that the log has news.
pub fn advance(bench: &Bench) {
    bench.drive(|engine, now| engine.handle_log_advanced(now));
}

/// All is safe, and every page that is wanted has been read.
pub fn sync(bench: &Bench, log: &HandLog) {
    loop {
        log.sync();
        let pages = log.read_pages();
        advance(bench);
        if pages == 0 && !log.has_news() {
            return;
        }
    }
}

/// The power goes; another broker starts on what is on disk, `later` milliseconds afterwards.
pub fn restart(bench: &Bench, log: &HandLog, later: u64) -> (Bench, HandLog) {
    Bench::revived(quiet(), Rules::dangerous_allow_all(), bench.now() + later, log.disk())
}

/// A session that is kept, with a subscription.
pub fn keeper(bench: &Bench, log: &HandLog, id: &str, text: &str, qos: u8) -> Client {
    let mut client = bench.connect(id).resume(3600).wait();
    sync(bench, log);
    client.next();
    client.ask(0, &[filter(text, qos)]);
    client.silent();
    sync(bench, log);
    client.next();
    client
}

/// Connect again, and the CONNACK with it.
pub fn back(bench: &Bench, log: &HandLog, id: &str) -> (Client, bool) {
    let client = bench.connect(id).resume(3600).wait();
    sync(bench, log);
    let Packet::Connack(connack) = client.next() else {
        panic!("no CONNACK");
    };
    (client, connack.session_present)
}
