//! Upstream's policy: the hash modulo the number of active kthreads.
//!
//! It needs no state, and each change of the active set moves nearly all flows:
//! of four hashes 4, 5, 6, 7 on four kthreads a fifth kthread moves every one.

use crate::ids::KthreadIdx;

/// The kthread for each packet, of those that are active.
///
/// *Source:* C: `rx_send_to_runtime`, iokernel/rx.c.
///
/// # Panics
/// When no kthread is active: the caller asks the arbiter then.
#[inline(always)]
pub(super) fn steer_burst(hashes: &[u32], active: &[KthreadIdx], out: &mut [KthreadIdx]) {
    // A packet's only division, in 32 bits; the common case of one kthread goes without.
    #[allow(clippy::cast_possible_truncation, reason = "at most NCPU kthreads")]
    let n = active.len() as u32;
    if n == 1 {
        out[..hashes.len()].fill(active[0]);
        return;
    }
    for (&hash, kthread) in hashes.iter().zip(out) {
        *kthread = active[(hash % n) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steer(hash: u32, active: &[KthreadIdx]) -> KthreadIdx {
        let mut out = [KthreadIdx(999)];
        steer_burst(&[hash], active, &mut out);
        out[0]
    }

    #[test]
    fn a_fifth_kthread_moves_every_flow_of_the_papers_example() {
        let all: Vec<KthreadIdx> = (0..5).map(KthreadIdx).collect();
        let before: Vec<u16> = (4..8).map(|h| steer(h, &all[..4]).0).collect();
        let after: Vec<u16> = (4..8).map(|h| steer(h, &all).0).collect();
        // 4,5,6,7 mod 4 = 0,1,2,3; mod 5 = 4,0,1,2.
        assert_eq!(before, [0, 1, 2, 3]);
        assert_eq!(after, [4, 0, 1, 2]);
    }

    #[test]
    fn one_active_kthread_gets_everything() {
        assert_eq!(steer(u32::MAX, &[KthreadIdx(7)]), KthreadIdx(7));
    }
}
