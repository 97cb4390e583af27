//! What the targets share: slow references, frames in parts, and odd values.

pub mod frame;
pub mod memory;
pub mod reference;
pub mod text;
pub mod world;
