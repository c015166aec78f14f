//! A load generator for any MQTT broker over TLS 1.3 with client certificates: one thread, real sockets, one JSON line.
//!
//! Measures the *broker's* processor time and memory, which is steadier than rates on a shared machine. Driven by
//! `make bench`; by hand `load MODE ADDR PID CA CERT KEY ID [--name number]...`:
//!
//! ```text
//! load pairs      …  --pairs 4 --count 50000 --size 64 --qos 0 --window 1000 --topics 1
//! load fan-in     …  --senders 50 --count 2000
//! load fan-out    …  --receivers 100 --count 2000
//! load sparse     …  --pairs 500 --rate 10 --seconds 5
//! load alive      …  --count 15000 --every 10 --seconds 10
//! load idle       …  --count 1000
//! load handshakes …  --count 500 --parallel 8 --resume 1
//! load storm      …  --count 1000 --rate 1000
//! load durable    …  --publishers 100 --count 1000 --window 1 --sessions 1 --attend 0
//! ```
//! With `--bare 1` the other side is the relay of `floor.rs`, which speaks no MQTT. Refuses to know which broker it loads.

use crowd::Shape;
use options::Options;
use std::error::Error;

mod broker;
mod client;
mod crowd;
mod durable;
mod flow;
mod handshakes;
mod options;
mod sparse;
mod storm;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let options = Options::parse()?;
    let shape = |senders, receivers| Shape { senders, receivers };
    let pairs = options.number("pairs", 4);
    let found = match options.mode.as_str() {
        "pairs" => flow::run(&options, shape(pairs, pairs)),
        "fan-in" => flow::run(&options, shape(options.number("senders", 50), 1)),
        "fan-out" => flow::run(&options, shape(1, options.number("receivers", 100))),
        "sparse" => sparse::run(&options),
        "alive" => sparse::alive(&options),
        "idle" => handshakes::idle(&options),
        "handshakes" => handshakes::run(&options),
        "storm" => storm::run(&options),
        "durable" => durable::run(&options),
        other => Err(format!("unknown mode {other}").into()),
    }?;
    println!("{found}");
    Ok(())
}
