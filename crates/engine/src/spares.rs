//! Messages that nobody needs any more, for those that come: the memory of one is the memory of the next.
//!
//! Refuses to know who needed them. A message at QoS 1 or 2 lives for a round trip, and there are hundreds of thousands in
//! a second: an allocator would be asked twice for each, and told twice.

use crate::memory::Memory;
use crate::message::{Content, Message};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Messages kept, and the bytes of the largest: half a MiB as messages mostly are, never more than 2.5 MiB.
const KEPT: usize = 4096;
const LARGEST: usize = 512;
/// Bytes that any message may have without counting them.
const SMALL: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct Spares(Vec<Arc<Message>>);

impl Spares {
    /// A message of `content`.
    #[inline]
    pub fn message(&mut self, content: &Content<'_>, memory: &Memory) -> Arc<Message> {
        if let Some(mut spare) = self.0.pop()
            && let Some(message) = Arc::get_mut(&mut spare)
            // A message is counted as what it says, so it must not hold much more than that.
            && message.capacity() <= SMALL.max(2 * content.length())
        {
            message.fill(content);
            return spare;
        }
        Arc::new(Message::new(content, memory))
    }

    /// One holder less; the last one leaves it here.
    #[inline]
    pub fn take_back(&mut self, mut message: Arc<Message>) {
        if self.0.len() < KEPT
            && let Some(last) = Arc::get_mut(&mut message)
            && last.capacity() <= LARGEST
        {
            last.empty();
            self.0.push(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use sealmq_codec::QoS;

    fn content<'a>(topic: &'a str, payload: &'a [u8]) -> Content<'a> {
        Content {
            topic,
            properties: &[1, 0],
            payload,
            expires_at: None,
            qos: QoS::AtLeastOnce,
            retain: false,
        }
    }

    #[test]
    fn a_message_is_made_of_the_memory_of_another_and_of_nothing_else() {
        let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
        let first = spares.message(&content("a/long/topic", b"secret"), &memory);
        let held = memory.used();
        spares.take_back(first);
        assert_eq!(memory.used(), 0, "a spare one counts for nobody");
        let second = spares.message(&content("b", b"x"), &memory);
        assert_eq!((second.content().topic, second.content().payload), ("b", &b"x"[..]));
        assert_eq!(second.content().properties, [1, 0]);
        assert_eq!(memory.used(), second.size());
        assert!(second.size() < held);
        assert_eq!(spares.0.len(), 0);
    }

    #[test]
    fn what_somebody_still_needs_is_left_alone() {
        let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
        let message = spares.message(&content("a", b"1"), &memory);
        spares.take_back(Arc::clone(&message));
        let other = spares.message(&content("b", b"2"), &memory);
        assert_eq!((message.content().topic, other.content().topic), ("a", "b"));
    }

    #[test]
    fn a_small_message_does_not_hold_the_memory_of_a_large_one() {
        let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
        let large = vec![0; LARGEST - 64];
        for _ in 0..100 {
            spares.take_back(Arc::new(Message::new(&content("t", &large), &memory)));
        }
        let small: Vec<_> = (0..100).map(|_| spares.message(&content("t", b"x"), &memory)).collect();
        assert!(small.iter().all(|message| message.capacity() <= SMALL));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
        let large = vec![0; LARGEST + 1];
        spares.take_back(Arc::new(Message::new(&content("t", &large), &memory)));
        assert_eq!(spares.0.len(), 0);
        for _ in 0..KEPT + 10 {
            spares.take_back(Arc::new(Message::new(&content("t", b"x"), &memory)));
        }
        assert_eq!((spares.0.len(), memory.used()), (KEPT, 0));
    }
}
