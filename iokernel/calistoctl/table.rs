//! Answers for people, in columns, and for programs, as JSON.

use anyhow::{Context, Result};
use calisto::config::rule::RuleSpec;
use serde_json::{Value, json};

/// Makes the text of an answer's lines; as JSON if asked.
pub(crate) type Table = fn(&[String], json: bool) -> Result<String>;

/// The rules: core, hash, and the flow if it was given so.
pub(crate) fn rules(lines: &[String], json: bool) -> Result<String> {
    let mut rows = vec![["CORE", "HASH", "FLOW"].map(str::to_owned)];
    let mut text = String::new();
    for line in lines {
        let spec: RuleSpec = line.parse().with_context(|| unexpected(line))?;
        let (core, hash) = (spec.core.0, format!("{:#010x}", spec.selector.hash()));
        let flow = spec.selector.flow().map(|flow| flow.to_string());
        if json {
            text += &format!("{}\n", json!({ "core": core, "hash": hash, "flow": flow }));
        } else {
            rows.push([core.to_string(), hash, flow.unwrap_or_default()]);
        }
    }
    Ok(if json { text } else { columns(&rows) })
}

/// The runtimes: who they are, and the counters that say most. JSON has all.
pub(crate) fn runtimes(lines: &[String], json: bool) -> Result<String> {
    if json {
        return Ok(verbatim(lines));
    }
    let heads = ["PID", "UID", "MAC", "KTHREADS", "GUARANTEED"];
    let counters = ["ST_PACKETS", "ST_FLOWS", "ST_CHANGED_CORE"];
    let head = heads.iter().chain(&counters);
    let mut rows = vec![head.map(ToString::to_string).collect::<Vec<_>>()];
    for line in lines {
        let runtime = object(line)?;
        let fields = ["pid", "uid", "mac", "kthreads", "guaranteed_cores"];
        let fields = fields.iter().map(|key| plain(&runtime[*key]));
        let counts = counters.iter().map(|key| plain(&runtime["steering"][*key]));
        rows.push(fields.chain(counts).collect());
    }
    Ok(columns(&rows))
}

/// The counters that are not zero, one a line.
pub(crate) fn stats(lines: &[String], json: bool) -> Result<String> {
    if json {
        return Ok(verbatim(lines));
    }
    let mut rows = Vec::new();
    for line in lines {
        let stats = object(line)?;
        for part in ["counters", "port", "held", "control", "steering"] {
            let counts = stats[part].as_object().into_iter().flatten();
            let counts = counts.filter(|(_, count)| **count != 0);
            rows.extend(counts.map(|(label, count)| [label.clone(), plain(count)]));
        }
    }
    Ok(columns(&rows))
}

fn verbatim(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

pub(crate) fn object(line: &str) -> Result<Value> {
    serde_json::from_str(line).with_context(|| unexpected(line))
}

fn unexpected(line: &str) -> String {
    format!("iokerneld answered `{line}`: use the calistoctl of the same version")
}

/// A value without quotes.
pub(crate) fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Pads every column but the last to its longest word.
pub(crate) fn columns<R: AsRef<[String]>>(rows: &[R]) -> String {
    let rows = || rows.iter().map(AsRef::as_ref);
    let count = rows().map(<[String]>::len).max().unwrap_or(0);
    let width = |i: usize| rows().map(|row| row[i].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows() {
        let mut line = String::new();
        for (word, width) in row.iter().zip(&widths) {
            line += &format!("{word:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    const RULES: &str = "core=5 hash=0x00000007
core=255 flow=udp 66.9.149.187:2794 -> 161.142.100.80:1766";

    #[test]
    fn rules_stand_in_columns() {
        let expected = "\
CORE  HASH        FLOW
5     0x00000007
255   0x51ccc178  udp 66.9.149.187:2794 -> 161.142.100.80:1766
";
        assert_eq!(rules(&lines(RULES), false).unwrap(), expected);
    }

    #[test]
    fn rules_as_json_stand_one_a_line() {
        let text = rules(&lines(RULES), true).unwrap();
        let objects: Vec<Value> = text.lines().map(|l| object(l).unwrap()).collect();
        assert_eq!(
            objects[0],
            json!({ "core": 5, "hash": "0x00000007", "flow": null })
        );
        assert_eq!(objects[1]["hash"], "0x51ccc178");
        assert_eq!(objects.len(), 2);
    }

    #[test]
    fn runtimes_and_counters_stand_in_columns() {
        let runtime = r#"{"pid":12,"uid":0,"mac":"02:00:00:00:00:01","kthreads":2,"guaranteed_cores":1,"steering":{"ST_PACKETS":90,"ST_FLOWS":3,"ST_CHANGED_CORE":0}}"#;
        let expected = "\
PID  UID  MAC                KTHREADS  GUARANTEED  ST_PACKETS  ST_FLOWS  ST_CHANGED_CORE
12   0    02:00:00:00:00:01  2         1           90          3         0
";
        assert_eq!(runtimes(&lines(runtime), false).unwrap(), expected);
        let all = r#"{"counters":{"RX_PULLED":11},"held":{"BUFS_FREE":5,"LEAVING":0},"steering":{"ST_PACKETS":9,"ST_FLOWS":0}}"#;
        let expected = "RX_PULLED   11\nBUFS_FREE   5\nST_PACKETS  9\n";
        assert_eq!(stats(&lines(all), false).unwrap(), expected);
        assert_eq!(stats(&lines(all), true).unwrap(), format!("{all}\n"));
    }

    #[test]
    fn an_answer_that_is_not_understood_is_said_to_be_so() {
        for table in [rules, runtimes, stats] {
            let error = table(&lines("what?"), false).unwrap_err();
            assert!(error.to_string().contains("`what?`"), "{error}");
        }
    }
}
