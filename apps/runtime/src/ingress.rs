//! Received frames, where the I/O kernel put them.

#![allow(unsafe_code, reason = "frames lie in the ingress segment")]

use calisto::abi::ingress::INGRESS_LEN;
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto::abi::types::{CHECKSUM_TYPE_UNNECESSARY, MBUF_DEFAULT_LEN, rx_net_hdr};

/// Bytes of the longest frame (with a VLAN tag).
const FRAME_MAX: u32 = 1518;

/// A received frame. Its buffer is lent to us until `tag` is returned.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// The frame.
    pub(crate) bytes: &'a [u8],
    /// To be returned.
    pub(crate) tag: u64,
    /// The flow's hash.
    pub(crate) rss_hash: u32,
    /// The IPv4 header's checksum was verified.
    pub(crate) verified: bool,
}

/// What a message names: the frame, or, if there is none, the tag if that could be read.
pub(crate) fn frame(ingress: &ShmRegion, payload: u64) -> Result<Frame<'_>, Option<u64>> {
    // As upstream's runtime: from the header on, a whole buffer lies in the segment.
    let at = ShmPtr(payload)
        .check(MBUF_DEFAULT_LEN as usize, INGRESS_LEN)
        .map_err(|_| None)?;
    let header: rx_net_hdr = ingress.read(ShmPtr(payload)).map_err(|_| None)?;
    if header.len > FRAME_MAX {
        return Err(Some(header.completion_data));
    }
    let bytes = ingress.at(at + size_of::<rx_net_hdr>(), header.len as usize);
    // SAFETY: check() above: 2048 bytes from `at` lie in the segment, and header and frame are
    // shorter than that. The I/O kernel does not write them before we return the tag. Other
    // runtimes could (the contract maps the segment into all of them, to write as well), and
    // then this is not sound by Rust's rules: no reference may be to bytes that change. That
    // it does no harm rests on two things: u8 has no invalid values, and whoever reads a byte
    // once and checks it uses what was checked, as long as the compiler does not read it again
    // in between. It may; a copy of every payload would be the price of ruling that out.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), header.len as usize) };
    Ok(Frame {
        bytes,
        tag: header.completion_data,
        rss_hash: header.rss_hash,
        verified: header.csum_type == CHECKSUM_TYPE_UNNECESSARY,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_inside_the_segment_and_of_possible_length_are_read() {
        let Ok(region) = ShmRegion::private(INGRESS_LEN) else {
            calisto::testing::skip::skip("frames in the segment", "no segment of 512 MiB");
            return;
        };
        let put = |at: u64, len: u32| {
            let header = rx_net_hdr {
                completion_data: 77,
                len,
                rss_hash: 5,
                csum_type: 1,
                csum: 0,
            };
            region.write(ShmPtr(at), header).unwrap();
        };
        let last = INGRESS_LEN as u64 - 2048;
        for (at, len) in [(0, 60), (1234, 1518), (last, 14)] {
            put(at, len);
            let frame = frame(&region, at).unwrap();
            assert_eq!(frame.bytes.len(), len as usize);
            assert_eq!((frame.tag, frame.rss_hash, frame.verified), (77, 5, true));
        }
        put(64, 1519);
        assert_eq!(frame(&region, 64).unwrap_err(), Some(77));
        for at in [last + 1, INGRESS_LEN as u64, u64::MAX] {
            assert_eq!(frame(&region, at).unwrap_err(), None);
        }
    }
}
