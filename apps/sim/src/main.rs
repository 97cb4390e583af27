//! `calisto-sim`: see the README.
fn main() -> anyhow::Result<()> {
    let mut scenario = calisto_sim::Scenario::default();
    for label in [
        "modulo",
        "kthread-table",
        "flow-table",
        "flow-table-strict",
        "buckets",
        "hybrid",
    ] {
        scenario.steering = calisto_sim::Steering::from_label(label)?;
        let start = std::time::Instant::now();
        let report = calisto_sim::run(&scenario)?;
        println!(
            "{}\n{:?}",
            serde_json::to_string_pretty(&report)?,
            start.elapsed()
        );
    }
    Ok(())
}
