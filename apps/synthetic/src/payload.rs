//! A request and its answer on the wire: the same 16 bytes, as upstream's.
//!
//! Bytes 0 to 7 are iterations of work, 8 to 15 the client's number of the request; both
//! big-endian. Over UDP a datagram is a request (what follows its 16 bytes is sent back
//! with them); over TCP requests follow each other without framing.

/// Bytes of a request, and of an answer.
pub const LEN: usize = 16;

/// A request, or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Iterations of fake work to do before the answer.
    pub work: u64,
    /// The client's number: a server sends it back as it came.
    pub index: u64,
}

impl Payload {
    /// As it travels.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&self.work.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// The payload at the beginning of `bytes`; `None` if they are too few.
    pub fn parse(bytes: &[u8]) -> Option<Payload> {
        let (work, rest) = bytes.split_first_chunk::<8>()?;
        let index = rest.first_chunk::<8>()?;
        Some(Payload {
            work: u64::from_be_bytes(*work),
            index: u64::from_be_bytes(*index),
        })
    }
}

/// What a TCP connection brought: whole payloads, and the begin of the next.
#[derive(Debug, Default)]
pub struct Stream {
    /// Bytes of an incomplete payload.
    begun: Vec<u8>,
}

impl Stream {
    /// Takes the next bytes of the connection; calls `f` with each payload that is
    /// complete, in order.
    pub fn push(&mut self, mut bytes: &[u8], mut f: impl FnMut(Payload)) {
        if !self.begun.is_empty() {
            let missing = (LEN - self.begun.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(missing);
            self.begun.extend_from_slice(head);
            bytes = rest;
            if let Some(payload) = Payload::parse(&self.begun) {
                f(payload);
                self.begun.clear();
            }
        }
        let mut whole = bytes.chunks_exact(LEN);
        whole.by_ref().filter_map(Payload::parse).for_each(f);
        self.begun.extend_from_slice(whole.remainder());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_big_endian() {
        let payload = Payload {
            work: 0x0102,
            index: 0x0a0b_0c0d_0e0f_1011,
        };
        let bytes = payload.to_bytes();
        assert_eq!(bytes[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(bytes[8..], [0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11]);
        assert_eq!(Payload::parse(&bytes), Some(payload));
        assert_eq!(Payload::parse(&bytes[..15]), None);
    }

    proptest! {
        #[test]
        fn a_stream_may_be_cut_anywhere(
            sent in prop::collection::vec((any::<u64>(), any::<u64>()), 0..40),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let sent: Vec<Payload> = sent.into_iter().map(|(work, index)| Payload { work, index }).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|p| p.to_bytes()).collect();
            let (mut stream, mut got, mut at) = (Stream::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at >= bytes.len() {
                    break;
                }
                let end = (at + cut).min(bytes.len());
                stream.push(&bytes[at..end], |p| got.push(p));
                at = end;
            }
            prop_assert_eq!(got, sent);
        }
    }
}
