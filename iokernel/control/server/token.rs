//! What an event of the control thread's epoll is about.

use rustix::event::epoll;

use crate::ids::{ProcId, ProcSlot};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Listener,
    Pending(u32),
    Attached(ProcId),
}

impl Token {
    const PENDING: u64 = 1 << 62;
    const ATTACHED: u64 = 1 << 63;

    pub(super) fn encode(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Listener => 0,
            Token::Pending(number) => Self::PENDING | u64::from(number),
            Token::Attached(id) => {
                Self::ATTACHED | u64::from(id.slot.0) << 32 | u64::from(id.generation)
            }
        })
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "takes apart what encode() put together"
    )]
    pub(super) fn decode(data: epoll::EventData) -> Token {
        let bits = data.u64();
        if bits & Self::ATTACHED != 0 {
            Token::Attached(ProcId {
                slot: ProcSlot((bits >> 32) as u16),
                generation: bits as u32,
            })
        } else if bits & Self::PENDING != 0 {
            Token::Pending(bits as u32)
        } else {
            Token::Listener
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let id = ProcId {
            slot: ProcSlot(1023),
            generation: u32::MAX,
        };
        for token in [
            Token::Listener,
            Token::Pending(u32::MAX),
            Token::Attached(id),
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
