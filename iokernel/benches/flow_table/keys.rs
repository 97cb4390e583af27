//! Flows' hashes, and the orders in which their packets come.

/// How packets are spread over flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// All flows in a random order, again and again.
    Uniform,
    /// Flow k sends in proportion to k^-0.99.
    Zipf,
}

/// The hash of a flow: different ones, as a NIC's look (the finalizer of MurmurHash3).
pub(crate) fn hash(flow: u32) -> u32 {
    let mut h = flow.wrapping_add(1);
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// xorshift: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The hashes of all flows in a random order.
pub(crate) fn shuffled(flows: u32) -> Vec<u32> {
    let mut random = Random(88_172_645_463_325_252);
    let mut all: Vec<u32> = (0..flows).map(hash).collect();
    for i in (1..all.len()).rev() {
        let j = usize::try_from(random.next() >> 16).expect("48 bits") % (i + 1);
        all.swap(i, j);
    }
    all
}

/// At least `len` hashes of packets.
pub(crate) fn packets(flows: u32, spread: Spread, len: usize) -> Vec<u32> {
    let all = shuffled(flows);
    match spread {
        Spread::Uniform => {
            let times = len.div_ceil(all.len());
            all.repeat(times)
        }
        Spread::Zipf => {
            let mut sum = 0.0;
            let sums: Vec<f64> = (1..=flows)
                .map(|k| {
                    sum += f64::from(k).powf(-0.99);
                    sum
                })
                .collect();
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            (0..len)
                .map(|_| {
                    let part = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
                    let at = sums.partition_point(|s| *s <= part * sum);
                    all[at.min(all.len() - 1)]
                })
                .collect()
        }
    }
}
