//! A fact as JSON text, with what peers chose cut to a length.
//!
//! Refuses to know where facts are kept.

use super::now_ms;
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use std::cell::RefCell;
use std::io;

/// Characters of a text in a fact.
pub const LONGEST_TEXT: usize = 512;

/// Hand a fact on as JSON, written in one go into memory of this thread: there are two for each connection that comes and goes.
pub fn with_fact<T>(event: &str, fields: &impl Serialize, take: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        write_fact(text, event, fields);
        take(std::str::from_utf8(text).unwrap_or_default())
    })
}

fn write_fact(text: &mut Vec<u8>, event: &str, fields: &impl Serialize) {
    text.extend_from_slice(br#"{"event":"#);
    // Numbers and texts into memory: nothing of this can fail.
    let _ = event.serialize(&mut Serializer::new(&mut *text));
    text.extend_from_slice(br#","at":"#);
    let _ = now_ms().serialize(&mut Serializer::new(&mut *text));
    let begin = text.len();
    let _ = fields.serialize(&mut Serializer::with_formatter(&mut *text, Bounded::default()));
    match text.get_mut(begin..) {
        Some([opening @ b'{', second, ..]) if *second != b'}' => *opening = b',',
        _ => {
            text.truncate(begin);
            text.push(b'}');
        }
    }
}

/// Writes what peers chose (client identifiers, topics, subjects) without the length they chose: facts are kept. Lists are
/// bounded by whoever makes them.
#[derive(Default)]
struct Bounded {
    /// Characters that the text being written may still have.
    left: usize,
    is_cut: bool,
}

impl Bounded {
    fn cut<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.left = 0;
        match std::mem::replace(&mut self.is_cut, true) {
            true => Ok(()),
            false => writer.write_all("…".as_bytes()),
        }
    }
}

impl Formatter for Bounded {
    fn begin_string<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        (self.left, self.is_cut) = (LONGEST_TEXT, false);
        CompactFormatter.begin_string(writer)
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        match fragment.char_indices().nth(self.left) {
            None => {
                self.left -= fragment.chars().count();
                writer.write_all(fragment.as_bytes())
            }
            Some((end, _)) => {
                writer.write_all(fragment.get(..end).unwrap_or_default().as_bytes())?;
                self.cut(writer)
            }
        }
    }

    fn write_char_escape<W: io::Write + ?Sized>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        if self.left == 0 {
            return self.cut(writer);
        }
        self.left -= 1;
        CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fact(event: &str, fields: &impl Serialize) -> String {
        with_fact(event, fields, str::to_owned)
    }

    fn fields(fact: &str) -> Value {
        let mut fields: Value = serde_json::from_str(fact).unwrap();
        assert!(fields.as_object_mut().unwrap().remove("at").unwrap().is_u64());
        fields
    }

    #[test]
    fn a_fact_is_an_object_with_a_name_and_a_time() {
        assert_eq!(fields(&fact("x", &json!({}))), json!({"event": "x"}));
        assert_eq!(
            fields(&fact("x", &json!({"a": [1, null]}))),
            json!({"event": "x", "a": [1, null]})
        );
        assert_eq!(
            fields(&fact("x", &json!({"count": 3}))),
            json!({"event": "x", "count": 3})
        );
    }

    #[test]
    fn a_text_keeps_its_first_512_characters() {
        let whole = [
            "a".repeat(512),
            "é".repeat(512),
            "\"".repeat(512),
            "\n\u{1}é\\".repeat(128),
        ];
        for text in whole {
            let written = fields(&fact("x", &json!({"text": text, "next": text})));
            assert_eq!(written, json!({"event": "x", "text": text, "next": text}));
            for more in ["b", "\"", "é\n"] {
                let written = fields(&fact("x", &json!({"text": format!("{text}{more}"), "next": text})));
                assert_eq!(written, json!({"event": "x", "text": format!("{text}…"), "next": text}));
                let long = format!("{text}{more}");
                let written = fields(&fact("x", &json!({"text": long, "next": long})));
                assert_eq!(written["text"], written["next"], "each of two is cut");
            }
        }
    }
}
