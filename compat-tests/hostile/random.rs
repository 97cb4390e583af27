//! Bytes that look random, and threads that change memory while it is read.

/// Random numbers, the same in every run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Four bytes.
    pub fn word(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.long().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.word().to_le_bytes()[0]
    }

    /// A number below `n`, which is small.
    pub fn below(&mut self, n: usize) -> usize {
        self.word() as usize % n
    }

    /// Eight bytes.
    pub fn long(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// A second thread that does `change` over and over, for as long as the process lives.
pub fn meanwhile(mut change: impl FnMut(&mut Random) + Send + 'static) {
    std::thread::spawn(move || {
        let mut random = Random::new(5);
        loop {
            change(&mut random);
        }
    });
}
