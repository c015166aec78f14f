//! The recording of one handshake inside the running broker: raw bytes both ways, and the keys to read them.
//!
//! Opt-in, one at a time, in memory, bounded. Refuses to know TLS and MQTT: whoever asked decodes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::KeyLog;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes kept of one connection; a handshake with MQTT's first packets takes a few thousand.
const KEPT: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    In,
    /// To the client.
    Out,
}

/// What is kept of one connection while somebody waits for a recording.
pub struct Tap {
    began: Instant,
    began_ms: u64,
    pieces: Vec<(Duration, Direction, Vec<u8>)>,
    bytes: usize,
    keys: Vec<String>,
    is_cut: bool,
}

impl Tap {
    pub fn new() -> Tap {
        Tap {
            began: Instant::now(),
            began_ms: crate::event::now_ms(),
            pieces: Vec::new(),
            bytes: 0,
            keys: Vec::new(),
            is_cut: false,
        }
    }

    /// Bytes as they were on the wire.
    pub fn note(&mut self, direction: Direction, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.bytes + bytes.len() > KEPT {
            self.is_cut = true;
            return;
        }
        self.bytes += bytes.len();
        self.pieces.push((self.began.elapsed(), direction, bytes.to_vec()));
    }

    pub fn add_keys(&mut self, lines: Vec<String>) {
        self.keys.extend(lines);
    }

    fn to_json(&self) -> Value {
        let pieces: Vec<Value> = self
            .pieces
            .iter()
            .map(|(at, direction, bytes)| {
                let side = if *direction == Direction::In { "in" } else { "out" };
                json!([at.as_micros() as u64, side, STANDARD.encode(bytes)])
            })
            .collect();
        json!({"began_ms": self.began_ms, "pieces": pieces, "keys": self.keys, "cut": self.is_cut})
    }
}

/// Whose handshake is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The next connection, whoever it is.
    Anyone,
    /// The next connection whose certificate names this device, accepted or not.
    Device(String),
}

#[derive(Default)]
struct State {
    wanted: Option<Wanted>,
    recording: Option<Value>,
}

/// Somebody is waiting for a recording already.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

#[derive(Default)]
pub struct Recorder {
    is_armed: AtomicBool,
    state: Mutex<State>,
    arrived: Condvar,
}

impl Recorder {
    /// Whether new connections are to be tapped.
    pub fn is_armed(&self) -> bool {
        self.is_armed.load(Ordering::Acquire)
    }

    /// Arm, wait, disarm: the recording, or `None` when nobody came within `timeout`.
    pub fn record(&self, wanted: Wanted, timeout: Duration) -> Result<Option<Value>, Busy> {
        let mut state = self.locked();
        if state.wanted.is_some() {
            return Err(Busy);
        }
        state.wanted = Some(wanted);
        self.is_armed.store(true, Ordering::Release);
        let deadline = Instant::now() + timeout;
        while state.recording.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self
                .arrived
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        self.is_armed.store(false, Ordering::Release);
        state.wanted = None;
        Ok(state.recording.take())
    }

    /// A tapped connection was accepted or refused: kept if it is the one that is waited for. `facts` are added to it.
    pub fn offer(&self, tap: &Tap, device: Option<&str>, facts: Value) {
        let mut state = self.locked();
        let fits = match &state.wanted {
            None => false,
            Some(Wanted::Anyone) => true,
            Some(Wanted::Device(id)) => device == Some(id.as_str()),
        };
        if !fits || state.recording.is_some() {
            return;
        }
        let mut recording = tap.to_json();
        if let (Value::Object(into), Value::Object(facts)) = (&mut recording, facts) {
            into.extend(facts);
        }
        state.recording = Some(recording);
        self.arrived.notify_all();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Lines of the handshake step under way on this thread, in the format of NSS key logs.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The keys that [`ThreadKeyLog`] saw since the last call on this thread.
pub fn take_keys() -> Vec<String> {
    LINES.with(RefCell::take)
}

/// Keep a line of a key log for the next [`take_keys`] on this thread.
pub fn keep_key_line(line: &str) {
    LINES.with(|lines| lines.borrow_mut().push(line.to_owned()));
}

/// Gives the secrets of a tapped connection to its tap. Only a configuration made for a recording has it.
#[derive(Debug)]
pub struct ThreadKeyLog;

impl KeyLog for ThreadKeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        keep_key_line(&format!("{label} {} {}", hex(client_random), hex(secret)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn only_the_one_that_is_waited_for_is_kept() {
        let recorder = Arc::new(Recorder::default());
        let mut tap = Tap::new();
        tap.note(Direction::In, b"hello");
        recorder.offer(&tap, Some("a"), json!({}));
        let waiting = {
            let recorder = Arc::clone(&recorder);
            std::thread::spawn(move || recorder.record(Wanted::Device("a".into()), Duration::from_secs(20)))
        };
        while !recorder.is_armed() {
            std::thread::yield_now();
        }
        assert_eq!(recorder.record(Wanted::Anyone, Duration::ZERO), Err(Busy));
        recorder.offer(&tap, Some("b"), json!({"outcome": "wrong"}));
        recorder.offer(&tap, None, json!({"outcome": "wrong"}));
        recorder.offer(&tap, Some("a"), json!({"outcome": "right"}));
        recorder.offer(&tap, Some("a"), json!({"outcome": "late"}));
        let recording = waiting.join().unwrap().unwrap().unwrap();
        assert_eq!(recording["outcome"], "right");
        assert_eq!(recording["pieces"][0][2], "aGVsbG8=");
        assert!(!recorder.is_armed());
        assert_eq!(recorder.record(Wanted::Anyone, Duration::ZERO), Ok(None));
    }

    #[test]
    fn a_tap_keeps_its_bound_and_says_so() {
        let mut tap = Tap::new();
        tap.note(Direction::Out, &vec![0; KEPT]);
        tap.note(Direction::Out, b"x");
        assert_eq!((tap.bytes, tap.is_cut), (KEPT, true));
    }
}
