//! A framework for whole-system tests of the contract, in real processes.

pub mod c_view;
pub mod skip;
