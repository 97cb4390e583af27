//! Measuring tools.
