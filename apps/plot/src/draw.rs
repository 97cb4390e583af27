//! Draws a [`Chart`] on a canvas, whatever the canvas is.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::coord::ranged1d::KeyPointHint;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use plotters_backend::{BackendCoord, DrawingErrorKind};

use crate::axis::{self, Axis};
use crate::{Chart, PlotError, Point};

const FONT: &str = "sans-serif";
const TEXT: i32 = 15;
const MARKER: i32 = 4;

/// Okabe and Ito's colours, which stay apart for colour-blind eyes.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// A range whose ticks were chosen by [`Axis`].
struct Ticks(Axis);

impl Ranged for Ticks {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    #[allow(clippy::cast_possible_truncation, reason = "a pixel within limits")]
    fn map(&self, value: &f64, limits: (i32, i32)) -> i32 {
        let share = (value - self.0.low) / (self.0.high - self.0.low);
        (f64::from(limits.0) + share * f64::from(limits.1 - limits.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() && hint.max_num_points() > self.0.ticks.len() {
            Vec::new()
        } else {
            self.0.ticks.clone()
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0.low..self.0.high
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Ticks {
    fn format(value: &f64) -> String {
        value.to_string()
    }
}

/// Draws the chart; everything that can be drawn is.
pub(crate) fn chart<DB: DrawingBackend>(
    chart: &Chart,
    root: &DrawingArea<DB, Shift>,
) -> Result<(), PlotError> {
    font();
    let drawable = |p: &&Point| {
        axis::position(chart.log_x, p.x).is_some() && axis::position(chart.log_y, p.y).is_some()
    };
    let points = || chart.series.iter().flat_map(|s| &s.points);
    let shown = || points().filter(drawable);
    let spreads = || shown().filter_map(|p| p.spread);
    let x = Axis::new(chart.log_x, shown().map(|p| p.x));
    let y = Axis::new(
        chart.log_y,
        shown()
            .map(|p| p.y)
            .chain(spreads().flat_map(|(low, high)| [low, high])),
    );
    let (Some(x), Some(y)) = (x, y) else {
        return Err(PlotError::Empty(chart.title.clone()));
    };
    let left_out = points().count() - shown().count();
    lines(chart, root, &x, &y, left_out)
        .and_then(|()| root.present())
        .map_err(|e| chart.refused(&e))
}

fn lines<'a, DB: DrawingBackend + 'a>(
    chart: &'a Chart,
    root: &DrawingArea<DB, Shift>,
    x: &'a Axis,
    y: &'a Axis,
    left_out: usize,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(root);
    let mut context = builder
        .caption(&chart.title, (FONT, 20))
        .margin(14)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(Ticks(x.clone()), Ticks(y.clone()))?;
    let x_label = match left_out {
        0 => chart.x_label.clone(),
        n => format!("{} ({n} points cannot be shown)", chart.x_label),
    };
    context
        .configure_mesh()
        .x_desc(x_label)
        .y_desc(&chart.y_label)
        .axis_desc_style((FONT, TEXT + 1))
        .label_style((FONT, TEXT))
        .x_labels(x.ticks.len())
        .y_labels(y.ticks.len())
        .x_label_formatter(&|at| x.label(*at))
        .y_label_formatter(&|at| y.label(*at))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    for (i, series) in chart.series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let line = colour.stroke_width(2);
        let at = |p: &Point| Some((x.position(p.x)?, y.position(p.y)?));
        let places: Vec<_> = series.points.iter().filter_map(at).collect();
        for p in &series.points {
            if let (Some((px, py)), Some((low, high))) = (at(p), p.spread) {
                let low = y.position(low).unwrap_or(py);
                let high = y.position(high).unwrap_or(py);
                context.draw_series([PathElement::new(
                    vec![(px, low), (px, high)],
                    colour.mix(0.5).stroke_width(1),
                )])?;
            }
        }
        context
            .draw_series(LineSeries::new(places.iter().copied(), line))?
            .label(&series.name)
            .legend(move |(x, y)| {
                EmptyElement::at((x, y))
                    + PathElement::new(vec![(0, 0), (24, 0)], line)
                    + Marker {
                        place: (12, 0),
                        series: i,
                        colour,
                    }
            });
        context.draw_series(places.iter().map(|place| Marker {
            place: *place,
            series: i,
            colour,
        }))?;
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .legend_area_size(30)
        .margin(8)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font((FONT, TEXT))
        .draw()
}

/// The marker of a series: shapes change before colours come again.
struct Marker<C> {
    place: C,
    series: usize,
    colour: RGBColor,
}

impl<'a, C> PointCollection<'a, C> for &'a Marker<C> {
    type Point = &'a C;
    type IntoIter = std::iter::Once<&'a C>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.place)
    }
}

impl<C, DB: DrawingBackend> Drawable<DB> for Marker<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut pixels: I,
        backend: &mut DB,
        _size: (u32, u32),
    ) -> Result<(), DrawingErrorKind<DB::ErrorType>> {
        let Some((x, y)) = pixels.next() else {
            return Ok(());
        };
        let corner = |dx: i32, dy: i32| (x + dx * MARKER, y + dy * MARKER);
        match self.series % 4 {
            0 => backend.draw_circle((x, y), MARKER as u32, &self.colour, true),
            1 => backend.fill_polygon([corner(0, -1), corner(1, 1), corner(-1, 1)], &self.colour),
            2 => {
                let style = self.colour.stroke_width(2);
                backend.draw_line(corner(-1, -1), corner(1, 1), &style)?;
                backend.draw_line(corner(-1, 1), corner(1, -1), &style)
            }
            _ => backend.fill_polygon(
                [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)],
                &self.colour,
            ),
        }
    }
}

/// Gives the bitmap canvas its font, once.
fn font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only for bytes that are no font, and a test draws with these.
        let _ = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
    });
}

/// A PNG of 8-bit RGB pixels.
pub(crate) fn encode_png(
    pixels: &[u8],
    (width, height): (u32, u32),
) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}
