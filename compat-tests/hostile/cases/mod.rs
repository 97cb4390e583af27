//! The cases, by what they abuse.

mod addresses;
mod commands;
mod eventfds;
mod headers;
mod life;
mod packets;
mod parks;
mod registration;
mod rings;
mod segments;
mod storms;
mod tags;
mod threads;
mod write_backs;

use super::Case;

/// All cases.
pub const ALL: &[&[Case]] = &[
    life::CASES,
    registration::CASES,
    segments::CASES,
    headers::CASES,
    rings::CASES,
    addresses::CASES,
    threads::CASES,
    eventfds::CASES,
    commands::CASES,
    tags::CASES,
    packets::CASES,
    write_backs::CASES,
    parks::CASES,
    storms::CASES,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::all;

    #[test]
    fn every_row_has_a_case_and_every_name_is_one() {
        let rows: HashSet<u8> = all().map(|case| case.row).collect();
        for row in 1..=22 {
            assert!(rows.contains(&row), "row {row}");
        }
        let names: HashSet<&str> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), all().count());
        assert!(names.len() >= 60, "{}", names.len());
    }
}
