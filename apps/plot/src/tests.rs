use super::*;

fn latencies() -> Chart {
    Chart {
        title: "p99 against load".into(),
        x_label: "requests a second".into(),
        y_label: "p99, us".into(),
        log_x: false,
        log_y: true,
        series: vec![
            Series::new("modulo", [(1e4, 20.0), (2e4, 30.0), (3e4, 400.0)]),
            Series {
                name: "flow-table".into(),
                points: vec![
                    Point::new(1e4, 18.0),
                    Point {
                        spread: Some((20.0, 60.0)),
                        ..Point::new(2e4, 28.0)
                    },
                ],
            },
        ],
    }
}

/// Red, green and blue of a picture's pixels.
fn pixels(png: &[u8]) -> Vec<[u8; 3]> {
    let mut reader = png::Decoder::new(png).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size()];
    reader.next_frame(&mut bytes).unwrap();
    bytes.chunks(3).map(|p| [p[0], p[1], p[2]]).collect()
}

fn count(pixels: &[[u8; 3]], colour: [u8; 3]) -> usize {
    pixels.iter().filter(|p| **p == colour).count()
}

#[test]
fn an_svg_names_all_that_it_shows() {
    let svg = latencies().to_svg().unwrap();
    for word in [
        "modulo",
        "flow-table",
        "p99 against load",
        "requests a second",
        "p99, us",
    ] {
        assert!(svg.contains(word), "{word} is missing");
    }
    assert!(!svg.contains("cannot be shown"));
}

#[test]
fn points_are_grouped_by_name_in_the_order_met() {
    let points = [("b", 1.0), ("a", 2.0), ("b", 3.0)];
    let series = Series::by_name(points.map(|(name, x)| (name, Point::new(x, 0.0))));
    let expected = [
        Series::new("b", [(1.0, 0.0), (3.0, 0.0)]),
        Series::new("a", [(2.0, 0.0)]),
    ];
    assert_eq!(series, expected);
}

#[test]
fn a_png_has_each_series_in_its_colour() {
    let both = pixels(&latencies().to_png().unwrap());
    let mut one = latencies();
    one.series.pop();
    let one = pixels(&one.to_png().unwrap());
    assert!(count(&both, [0, 114, 178]) > 100);
    assert!(count(&both, [213, 94, 0]) > 100);
    assert_eq!(count(&one, [213, 94, 0]), 0);
}

#[test]
fn a_png_has_text() {
    let mut chart = latencies();
    let with = pixels(&chart.to_png().unwrap());
    chart.title.clear();
    let without = pixels(&chart.to_png().unwrap());
    let dark = |p: &[[u8; 3]]| {
        p.iter()
            .filter(|p| p[0] < 60 && p[1] < 60 && p[2] < 60)
            .count()
    };
    assert!(dark(&with) > dark(&without) + 100);
}

#[test]
fn points_that_cannot_be_shown_are_told() {
    let mut chart = latencies();
    chart.series[0].points.push(Point::new(4e4, f64::INFINITY));
    chart.series[0].points.push(Point::new(5e4, 0.0));
    assert!(
        chart
            .to_svg()
            .unwrap()
            .contains("(2 points cannot be shown)")
    );
}

#[test]
fn an_empty_chart_is_refused() {
    let mut chart = latencies();
    for series in &mut chart.series {
        series.points.clear();
    }
    assert!(matches!(chart.to_svg(), Err(PlotError::Empty(_))));
    assert!(matches!(chart.to_png(), Err(PlotError::Empty(_))));
}

#[test]
fn a_missing_folder_is_named() {
    let error = latencies()
        .save(Path::new("no/such/folder/chart"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot write no/such/folder/chart.svg")
    );
}
