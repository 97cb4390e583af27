//! Policies as a whole: the paper's example, properties, shares moved.

mod bed;
mod example;
mod properties;
mod rules;
mod shares;
