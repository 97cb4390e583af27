//! Requests as text, one line each.

use std::fmt;
use std::str::FromStr;

use crate::config::rule::{RuleSpec, Selector};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The rules in force.
    Rules,
    /// One more rule.
    RuleAdd(RuleSpec),
    /// One rule less.
    RuleDel(Selector),
    /// No rules.
    RuleClear,
    /// Who is attached.
    Runtimes,
    /// What was counted.
    Stats,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Rules => f.write_str("rules"),
            Request::RuleAdd(spec) => write!(f, "rule add {spec}"),
            Request::RuleDel(selector) => write!(f, "rule del {selector}"),
            Request::RuleClear => f.write_str("rule clear"),
            Request::Runtimes => f.write_str("runtimes"),
            Request::Stats => f.write_str("stats"),
        }
    }
}

impl FromStr for Request {
    /// One line.
    type Err = String;

    fn from_str(text: &str) -> Result<Request, String> {
        let text = text.trim();
        if let Some(rule) = text.strip_prefix("rule add ") {
            let spec = rule.parse::<RuleSpec>();
            return spec.map(Request::RuleAdd).map_err(|e| e.to_string());
        }
        if let Some(selector) = text.strip_prefix("rule del ") {
            let selector = selector.parse::<Selector>();
            return selector.map(Request::RuleDel).map_err(|e| e.to_string());
        }
        match text {
            "rules" => Ok(Request::Rules),
            "rule clear" => Ok(Request::RuleClear),
            "runtimes" => Ok(Request::Runtimes),
            "stats" => Ok(Request::Stats),
            _ => Err(format!(
                "unknown request `{}`: ask rules, rule add, rule del, rule clear, runtimes or stats",
                text.escape_debug()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_can_be_read() {
        for text in [
            "rules",
            "rule add core=5 hash=0x51ccc178",
            "rule add core=5 flow=udp 10.0.0.1:5000 -> 192.168.1.3:80",
            "rule del hash=0x00000007",
            "rule del flow=tcp [fd00::1]:5000 -> [fd00::2]:80",
            "rule clear",
            "runtimes",
            "stats",
        ] {
            assert_eq!(text.parse::<Request>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused_in_one_line() {
        for (text, part) in [
            ("", "unknown request ``"),
            ("rule", "unknown request `rule`"),
            ("rules now", "unknown request `rules now`"),
            ("a\u{7}\nb", "unknown request `a\\u{7}\\nb`"),
            ("rule add core=5", "`core=5` is no rule"),
            ("rule add core=256 hash=1", "core 256: must be 0 to 255"),
            ("rule del core=5", "either a hash or a flow"),
            ("rule del hash=x", "hash x: must be"),
        ] {
            let line = text.parse::<Request>().unwrap_err();
            assert!(line.contains(part), "{text:?}: {line}");
            assert!(!line.contains('\n'));
        }
    }
}
