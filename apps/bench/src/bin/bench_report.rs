//! Prints the table of the runs that come in on standard input.

use std::io::stdin;

use anyhow::Context;
use calisto_bench::report::{Run, table};

fn main() -> anyhow::Result<()> {
    let runs = stdin()
        .lines()
        .enumerate()
        .map(|(i, line)| Run::parse(&line?).with_context(|| format!("line {}", i + 1)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    print!("{}", table(&runs));
    Ok(())
}
