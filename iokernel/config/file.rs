//! The TOML file: the flags' names without dashes in front, as keys.

use serde::Deserialize;

use super::rule::{self, RuleSpec, RuleTextError};

/// The file's values, not yet checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FileConfig {
    pub(super) port: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) affinity: Option<String>,
    pub(super) flow_entries: Option<u64>,
    pub(super) flow_idle: Option<u64>,
    pub(super) order_guard: Option<bool>,
    pub(super) watch_flows: Option<bool>,
    /// `[[rule]]` tables; the command line has none.
    pub(super) rule: Option<Vec<RuleTable>>,
    pub(super) cores: Option<String>,
    pub(super) dataplane_core: Option<u32>,
    pub(super) control_core: Option<u32>,
    pub(super) no_smt: Option<bool>,
    pub(super) virtual_cores: Option<u32>,
    pub(super) idle: Option<String>,
    pub(super) no_huge: Option<bool>,
    pub(super) shm_mode: Option<String>,
    pub(super) allow_uid: Option<String>,
    pub(super) allow_gid: Option<String>,
    pub(super) shm_gid: Option<u32>,
    pub(super) lent_max: Option<u32>,
    pub(super) seccomp: Option<String>,
    pub(super) keep_caps: Option<String>,
    pub(super) verbose: Option<u8>,
    pub(super) eal: Option<Vec<String>>,
}

/// One `[[rule]]`, its values not yet checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleTable {
    core: i64,
    hash: Option<toml::Value>,
    flow: Option<String>,
}

impl RuleTable {
    /// The rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn spec(&self) -> Result<RuleSpec, RuleTextError> {
        let core = rule::core(&self.core.to_string())?;
        let selector = match (&self.hash, &self.flow) {
            (Some(toml::Value::String(text)), None) => rule::hash(text),
            (Some(other), None) => rule::hash(&other.to_string()),
            (None, Some(text)) => rule::flow(text),
            _ => Err(RuleTextError::Selector),
        }?;
        Ok(RuleSpec { selector, core })
    }
}

/// The keys of [`FileConfig`]. A test holds the two lists together.
pub(super) const KEYS: [&str; 24] = [
    "port",
    "policy",
    "affinity",
    "flow-entries",
    "flow-idle",
    "order-guard",
    "watch-flows",
    "rule",
    "cores",
    "dataplane-core",
    "control-core",
    "no-smt",
    "virtual-cores",
    "idle",
    "no-huge",
    "shm-mode",
    "allow-uid",
    "allow-gid",
    "shm-gid",
    "lent-max",
    "seccomp",
    "keep-caps",
    "verbose",
    "eal",
];

impl FileConfig {
    /// Reads the file's text.
    ///
    /// # Errors
    /// One line: where and what.
    pub(super) fn read(text: &str) -> Result<FileConfig, String> {
        let table: toml::Table = text.parse().map_err(|e| one_line(&e, text))?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let nearest = KEYS
                .into_iter()
                .min_by_key(|known| distance(key, known))
                .expect("there are keys");
            return Err(format!("unknown key `{key}`; did you mean `{nearest}`?"));
        }
        toml::from_str(text).map_err(|e| one_line(&e, text))
    }
}

fn one_line(e: &toml::de::Error, text: &str) -> String {
    let message = e.message().replace('\n', ", ");
    match e.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}

/// Letters to insert, drop or replace to make one word of another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_to_the_struct() {
        // An unknown key and a wrong type give different messages.
        for key in KEYS {
            let error = toml::from_str::<FileConfig>(&format!("{key} = 1.5")).unwrap_err();
            assert!(!error.message().contains("unknown field"), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_gets_the_nearest_one() {
        let error = FileConfig::read("virtual_cores = 4").unwrap_err();
        assert_eq!(
            error,
            "unknown key `virtual_cores`; did you mean `virtual-cores`?"
        );
    }

    #[test]
    fn a_wrong_type_names_its_line() {
        let error = FileConfig::read("port = \"loopback\"\nno-huge = 3\n").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn broken_toml_names_its_line() {
        let error = FileConfig::read("port = \"loopback\"\ncores = = 3\n").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn distances_are_counted() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
