//! A Markdown page that grows: headings, paragraphs, tables, pictures.

use std::fmt::{Display, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use calisto_plot::Chart;

use crate::median::Median;
use crate::summary::number;

/// The page and the folder in which it and its pictures go.
#[derive(Debug)]
pub(crate) struct Page {
    folder: PathBuf,
    text: String,
}

impl Page {
    /// An empty page in a folder, which is made.
    pub(crate) fn new(folder: &Path) -> Result<Page> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Page {
            folder: folder.to_owned(),
            text: String::new(),
        })
    }

    /// A heading: level 1 is the page's title.
    pub(crate) fn heading(&mut self, level: usize, text: &str) {
        let _ = writeln!(self.text, "{} {text}\n", "#".repeat(level));
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: impl Display) {
        let _ = writeln!(self.text, "{text}\n");
    }

    /// A table; every row is as long as the head.
    pub(crate) fn table<H: Display, C: Display>(
        &mut self,
        head: impl IntoIterator<Item = H>,
        rows: impl IntoIterator<Item = Vec<C>>,
    ) {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head: Vec<String> = head.into_iter().map(|cell| cell.to_string()).collect();
        let rule = vec!["---".to_owned(); head.len()];
        self.text += &line(head);
        self.text += &line(rule);
        for row in rows {
            self.text += &line(row.iter().map(ToString::to_string).collect());
        }
        self.text.push('\n');
    }

    /// A picture, saved beside the page as SVG and PNG.
    pub(crate) fn picture(&mut self, name: &str, chart: &Chart) -> Result<()> {
        chart.save(&self.folder.join(name))?;
        let _ = writeln!(self.text, "![{}]({name}.svg)\n", chart.title);
        Ok(())
    }

    /// Writes the page; where it is.
    pub(crate) fn save(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, &self.text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// A median and its spread, in words: `12.3 (11.9-13.0)`.
pub(crate) fn with_spread(median: Option<Median>, digits: usize) -> String {
    match median {
        None => "-".to_owned(),
        Some(m) => format!(
            "{} ({} to {})",
            number(m.middle, digits),
            number(m.least, digits),
            number(m.greatest, digits)
        ),
    }
}

/// A median alone.
pub(crate) fn short(median: Option<Median>, digits: usize) -> String {
    median.map_or("-".to_owned(), |m| number(m.middle, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_markdown() {
        let folder = std::env::temp_dir().join(format!("calisto-page-{}", std::process::id()));
        let mut page = Page::new(&folder).unwrap();
        page.heading(2, "Loads");
        page.paragraph("Two of them.");
        page.table(["load", "p99"], [vec!["1", "2"], vec!["3", "4"]]);
        let path = page.save("report.md").unwrap();
        let text = fs::read_to_string(path).unwrap();
        fs::remove_dir_all(folder).unwrap();
        let expected =
            "## Loads\n\nTwo of them.\n\n| load | p99 |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn spreads_stand_behind_medians() {
        let median = Median::of([1.0, 2.0, 4.0]);
        assert_eq!(with_spread(median, 1), "2.0 (1.0 to 4.0)");
        assert_eq!(short(None, 1), "-");
    }
}
