//! Fields of what a runtime registers with, by their offsets.

/// A field of `control_hdr`, by its offset.
pub mod header {
    /// `magic`
    pub const MAGIC: usize = 0;
    /// `thread_count`
    pub const THREADS: usize = 4;
    /// `egress_buf_count`
    pub const EGRESS: usize = 8;
    /// `mac`
    pub const MAC: usize = 16;
    /// `sched_cfg.guaranteed_cores`
    pub const GUARANTEED: usize = 32;
}

/// A field of `thread_spec`, by its offset.
pub mod spec {
    /// `rxq`; its fields are as those of [`TXPKTQ`].
    pub const RXQ: usize = 0;
    /// `txpktq`: first its `msg_count`
    pub const TXPKTQ: usize = 24;
    /// `txcmdq`
    pub const TXCMDQ: usize = 48;
    /// `msg_buf` of a queue
    pub const BUF: usize = 8;
    /// `wb` of a queue
    pub const WB: usize = 16;
    /// `q_ptrs`
    pub const Q_PTRS: usize = 72;
    /// `tid`
    pub const TID: usize = 80;
}
