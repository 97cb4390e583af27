//! What an offender is made of.

/// What an offender is, before it offends.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Its address: runtime `n`'s.
    pub number: u16,
    /// Kthreads.
    pub kthreads: usize,
    /// Cores that it wants whenever it wants them.
    pub guaranteed: u32,
    /// Bytes of its region.
    pub len: usize,
    /// The region is of 2 MiB pages.
    pub huge: bool,
}

impl Plan {
    /// One kthread, one guaranteed core, 2 MiB.
    pub fn new() -> Plan {
        Plan {
            number: 66,
            kthreads: 1,
            guaranteed: 1,
            len: 2 << 20,
            huge: std::env::var_os(super::HUGE_VAR).is_some(),
        }
    }

    /// With another number.
    #[must_use]
    pub fn number(self, number: u16) -> Plan {
        Plan { number, ..self }
    }

    /// With other kthreads and guarantees.
    #[must_use]
    pub fn kthreads(self, kthreads: usize, guaranteed: u32) -> Plan {
        Plan {
            kthreads,
            guaranteed,
            ..self
        }
    }

    /// As small as can be: many of them fit.
    #[must_use]
    pub fn small(self) -> Plan {
        Plan {
            len: 64 << 10,
            huge: false,
            ..self
        }
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan::new()
    }
}
