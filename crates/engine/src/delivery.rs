//! One message on its way to one session, through its stages.
//!
//! Refuses to know sessions and connections.

use crate::message::Held;
use crate::spares::Spares;
use alloc::boxed::Box;
use sealmq_codec::QoS;
use sealmq_store::{Order, Seq, Slot};

/// Packet identifiers, 1 to 65535.
pub(crate) const IDENTIFIERS: u64 = 65_535;

/// Where the log has a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub seq: Seq,
    pub slot: Slot,
}

/// A message on its way to this session.
#[derive(Debug)]
pub(crate) struct Pending {
    pub message: Held,
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: Box<[u32]>,
    /// Means nothing at QoS 0.
    pub order: Order,
    pub kept: Option<Kept>,
}

/// A message that may have to be sent again.
#[derive(Debug)]
pub(crate) struct Sent {
    pub message: Held,
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: Box<[u32]>,
}

impl From<Pending> for Sent {
    fn from(pending: Pending) -> Sent {
        Sent {
            message: pending.message,
            qos: pending.qos,
            retain: pending.retain,
            identifiers: pending.identifiers,
        }
    }
}

/// Where a QoS 1 or 2 delivery stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// PUBLISH sent; PUBACK or PUBREC awaited.
    Publish(Sent),
    /// PUBREL sent; PUBCOMP awaited. The message itself is the receiver's now.
    Pubrel,
}

#[derive(Debug)]
pub(crate) struct Inflight {
    pub order: Order,
    pub stage: Stage,
    pub kept: Option<Kept>,
    /// Whether it went out on the connection of now; after a reconnect everything is to be sent again.
    pub sent: bool,
}

impl Inflight {
    pub fn packet_id(&self) -> u16 {
        packet_id(self.order)
    }

    /// Whether its message was sent at `qos` and the first answer is still to come.
    #[inline]
    pub fn awaits(&self, qos: QoS) -> bool {
        matches!(&self.stage, Stage::Publish(sent) if sent.qos == qos)
    }

    /// The message is the receiver's.
    #[inline]
    pub fn release(&mut self, spares: &mut Spares) {
        if let Stage::Publish(sent) = core::mem::replace(&mut self.stage, Stage::Pubrel) {
            spares.take_back(sent.message);
        }
    }

    /// Bytes of its message, for the budgets; once it is released there is none.
    pub fn size(&self) -> u64 {
        match &self.stage {
            Stage::Publish(sent) => sent.message.size(),
            Stage::Pubrel => 0,
        }
    }
}

/// What is on disk and not in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spill {
    /// Nothing with a lower order is on disk alone.
    pub from: Order,
    /// The log is that far when all of it can be read.
    pub until: Seq,
    pub count: u64,
    pub bytes: u64,
}

/// A delivery that is over: what the log may forget, if it knew of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over {
    pub order: Order,
    pub kept: Option<Kept>,
}

impl Over {
    pub fn of(pending: &Pending) -> Over {
        Over {
            order: pending.order,
            kept: pending.kept,
        }
    }
}

/// A delivery whose message the receiver has taken over (PUBREC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub order: Order,
    /// For the first time, and the log has the message.
    pub must_be_recorded: bool,
}

/// 1 to 65535, in turn.
pub(crate) fn packet_id(order: Order) -> u16 {
    (order.0 % IDENTIFIERS) as u16 + 1
}
