//! The experiment's report: a Markdown page with plots, whose every verdict is computed.

pub(crate) mod claims;
pub(crate) mod measured;
pub(crate) mod page;
pub(crate) mod questions;
