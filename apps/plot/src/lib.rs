//! Line charts of measurements: one [`Chart`], saved as SVG and PNG.
//!
//! Every chart of this project is drawn here, so that all look alike: a line
//! and a marker shape of its own for each series (they stay apart without
//! colour), a bar from least to greatest where a point has a spread, axes
//! linear or logarithmic, a legend below the title. DejaVu Sans is built in:
//! a bare machine has no fonts.
//!
//! Points that a logarithmic axis cannot show (zero and less) and points that
//! are not finite are left out, and the chart says below how many.

mod axis;
mod draw;

use std::io;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// Size of a chart, in pixels.
pub const SIZE: (u32, u32) = (960, 600);

/// One measured point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where it is on the x axis, in that axis' unit.
    pub x: f64,
    /// What was measured: a median or mean, in the y axis' unit.
    pub y: f64,
    /// Least and greatest of the runs behind `y`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<(f64, f64)>,
}

impl Point {
    /// A point without a spread.
    pub fn new(x: f64, y: f64) -> Point {
        Point { x, y, spread: None }
    }
}

/// Points that belong together, joined by a line in the order given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points.
    pub points: Vec<Point>,
}

impl Series {
    /// One series for each name, in the order in which the names are first met.
    pub fn by_name<'a>(points: impl IntoIterator<Item = (&'a str, Point)>) -> Vec<Series> {
        let mut all: Vec<Series> = Vec::new();
        for (name, point) in points {
            match all.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => all.push(Series {
                    name: name.to_owned(),
                    points: vec![point],
                }),
            }
        }
        all
    }

    /// A series of points without spreads.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Series {
        Series {
            name: name.into(),
            points: points.into_iter().map(|(x, y)| Point::new(x, y)).collect(),
        }
    }
}

/// What to draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// One line above the chart.
    pub title: String,
    /// Name and unit of the x axis.
    pub x_label: String,
    /// Name and unit of the y axis.
    pub y_label: String,
    /// Whether the x axis is logarithmic.
    #[serde(default)]
    pub log_x: bool,
    /// Whether the y axis is logarithmic.
    #[serde(default)]
    pub log_y: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// Why a chart was not drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// No series has a point that the axes can show.
    #[error("nothing to draw in \"{0}\": no series has a finite point")]
    Empty(String),
    /// The file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The drawing library refused.
    #[error("cannot draw \"{title}\": {reason}")]
    Draw {
        /// The chart's title.
        title: String,
        /// What the library said.
        reason: String,
    },
}

impl Chart {
    /// Writes `path.svg` and `path.png`; `path` has no extension. Returns both.
    ///
    /// # Errors
    /// Nothing to draw, or a file that cannot be written; an earlier file of that
    /// name is then as it was.
    pub fn save(&self, path: &Path) -> Result<[PathBuf; 2], PlotError> {
        let svg = self.to_svg()?;
        let png = self.to_png()?;
        let write = |extension: &str, bytes: &[u8]| {
            let mut name = path.as_os_str().to_owned();
            name.push(".");
            name.push(extension);
            let path = PathBuf::from(name);
            match std::fs::write(&path, bytes) {
                Ok(()) => Ok(path),
                Err(source) => Err(PlotError::Write { path, source }),
            }
        };
        Ok([write("svg", svg.as_bytes())?, write("png", &png)?])
    }

    /// The chart as an SVG document.
    ///
    /// # Errors
    /// As [`Chart::save`], but for the files.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        let mut svg = String::new();
        draw::chart(
            self,
            &SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(),
        )?;
        Ok(svg)
    }

    /// The chart as a PNG image.
    ///
    /// # Errors
    /// As [`Chart::save`], but for the files.
    pub fn to_png(&self) -> Result<Vec<u8>, PlotError> {
        let (width, height) = SIZE;
        let mut pixels = vec![0; (width * height * 3) as usize];
        draw::chart(
            self,
            &BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area(),
        )?;
        draw::encode_png(&pixels, SIZE).map_err(|reason| self.refused(&reason))
    }

    fn refused(&self, reason: &dyn std::fmt::Display) -> PlotError {
        PlotError::Draw {
            title: self.title.clone(),
            reason: reason.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
