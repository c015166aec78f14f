//! Messages that nobody needs any more, for those that come: the memory of one is the memory of the next.
//!
//! Refuses to know who needed them. A message at QoS 1 or 2 lives for a round trip, and there are hundreds of thousands in
//! a second: an allocator would be asked twice for each, and told twice.

use crate::memory::Memory;
use crate::message::{Content, Held, Message};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Messages kept, and the bytes of the largest: half a MiB as messages mostly are, never more than 2.5 MiB.
const KEPT: usize = 4096;
const LARGEST: usize = 512;
/// Bytes that any message may have without counting them.
const SMALL: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct Spares {
    #[allow(clippy::vec_box, reason = "they are given out as they are, and given back")]
    alone: Vec<Box<Message>>,
    shared: Vec<Arc<Message>>,
}

impl Spares {
    /// A message of `content` for one.
    #[inline]
    fn alone(&mut self, content: &Content<'_>, memory: &Memory) -> Box<Message> {
        if let Some(mut spare) = self.alone.pop()
            && suits(&spare, content)
        {
            spare.fill(content);
            return spare;
        }
        Box::new(Message::new(content, memory))
    }

    /// A message of `content` for many.
    #[inline]
    fn shared(&mut self, content: &Content<'_>, memory: &Memory) -> Arc<Message> {
        if let Some(mut spare) = self.shared.pop()
            && let Some(message) = Arc::get_mut(&mut spare)
            && suits(message, content)
        {
            message.fill(content);
            return spare;
        }
        Arc::new(Message::new(content, memory))
    }

    /// A message of `content` for one of many, who share the copy in `shared`, or for the only one.
    #[inline]
    pub fn hold(&mut self, content: &Content<'_>, memory: &Memory, shared: Option<&mut Option<Arc<Message>>>) -> Held {
        match shared {
            None => Held::Alone(self.alone(content, memory)),
            Some(shared) => {
                let message = shared.get_or_insert_with(|| self.shared(content, memory));
                Held::Shared(Arc::clone(message))
            }
        }
    }

    /// One holder less; the last one leaves it here.
    #[inline]
    pub fn take_back(&mut self, message: Held) {
        if self.alone.len() + self.shared.len() >= KEPT {
            return;
        }
        match message {
            Held::Alone(mut message) if message.capacity() <= LARGEST => {
                message.empty();
                self.alone.push(message);
            }
            Held::Shared(mut message) => {
                if let Some(last) = Arc::get_mut(&mut message)
                    && last.capacity() <= LARGEST
                {
                    last.empty();
                    self.shared.push(message);
                }
            }
            Held::Alone(_) => {}
        }
    }
}

/// A message is counted as what it says, so it must not hold much more than that.
#[inline]
fn suits(spare: &Message, content: &Content<'_>) -> bool {
    spare.capacity() <= SMALL.max(2 * content.length())
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
        for is_shared in [false, true] {
            let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
            let take = |spares: &mut Spares, content: &Content<'_>| {
                if is_shared {
                    Held::Shared(spares.shared(content, &memory))
                } else {
                    Held::Alone(spares.alone(content, &memory))
                }
            };
            let first = take(&mut spares, &content("a/long/topic", b"secret"));
            let held = memory.used();
            spares.take_back(first);
            assert_eq!(memory.used(), 0, "a spare one counts for nobody");
            let second = take(&mut spares, &content("b", b"x"));
            assert_eq!((second.content().topic, second.content().payload), ("b", &b"x"[..]));
            assert_eq!(second.content().properties, [1, 0]);
            assert_eq!(memory.used(), second.size());
            assert!(second.size() < held);
            assert_eq!((spares.alone.len(), spares.shared.len()), (0, 0));
        }
    }

    #[test]
    fn what_somebody_still_needs_is_left_alone() {
        let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
        let message = spares.shared(&content("a", b"1"), &memory);
        spares.take_back(Held::Shared(Arc::clone(&message)));
        let other = spares.shared(&content("b", b"2"), &memory);
        assert_eq!((message.content().topic, other.content().topic), ("a", "b"));
    }

    #[test]
    fn a_small_message_does_not_hold_the_memory_of_a_large_one() {
        let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
        let large = vec![0; LARGEST - 64];
        for _ in 0..100 {
            let message = Message::new(&content("t", &large), &memory);
            spares.take_back(Held::Alone(Box::new(message)));
            let message = Message::new(&content("t", &large), &memory);
            spares.take_back(Held::Shared(Arc::new(message)));
        }
        let small = content("t", b"x");
        let alone: Vec<_> = (0..100).map(|_| spares.alone(&small, &memory)).collect();
        let shared: Vec<_> = (0..100).map(|_| spares.shared(&small, &memory)).collect();
        assert!(alone.iter().all(|message| message.capacity() <= SMALL));
        assert!(shared.iter().all(|message| message.capacity() <= SMALL));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let (mut spares, memory) = (Spares::default(), Memory::new(1 << 30));
        let large = vec![0; LARGEST + 1];
        spares.take_back(Held::Shared(Arc::new(Message::new(&content("t", &large), &memory))));
        spares.take_back(Held::Alone(Box::new(Message::new(&content("t", &large), &memory))));
        assert_eq!((spares.alone.len(), spares.shared.len()), (0, 0));
        for _ in 0..KEPT {
            spares.take_back(Held::Shared(Arc::new(Message::new(&content("t", b"x"), &memory))));
            spares.take_back(Held::Alone(Box::new(Message::new(&content("t", b"x"), &memory))));
        }
        assert_eq!(spares.alone.len() + spares.shared.len(), KEPT);
        assert_eq!(memory.used(), 0);
    }
}
