//! The numbers of runs as plots, in SVG.

use std::fmt::Display;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const WIDTH: u32 = 760;
const ROW: u32 = 26;
const TREND: (u32, u32) = (370, 170);

/// What grew, what shrank, and what did neither.
const WORSE: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const BETTER: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const SAME: RGBColor = RGBColor(0x00, 0x72, 0xb2);

/// A bar for each name, from 0 to its ratio, with a line at 1. What is off by more than
/// `allowed` has another colour.
///
/// # Errors
///
/// When the drawing library refuses.
pub fn ratios(ratios: &[(String, f64)], allowed: f64) -> Result<String> {
    let rows = u32::try_from(ratios.len())?;
    let top = ratios
        .iter()
        .fold(1.2, |top, (_, ratio)| f64::max(top, ratio * 1.1));
    let mut text = String::new();
    {
        // Two margins, and the labels below.
        let size = (WIDTH, ROW * rows + 50);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(refusal)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(110)
            .build_cartesian_2d(0.0..top, 0.0..f64::from(rows))
            .map_err(refusal)?;
        // The first one is at the top.
        let middle = |row: u32| f64::from(rows - row) - 0.5;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_label_formatter(&|ratio| format!("{ratio:.1}"))
            .y_labels(0)
            .draw()
            .map_err(refusal)?;
        for ((_, ratio), row) in ratios.iter().zip(0..) {
            let at = middle(row);
            let bar = Rectangle::new(
                [(0.0, at - 0.3), (*ratio, at + 0.3)],
                colour(*ratio, allowed).filled(),
            );
            chart.draw_series([bar]).map_err(refusal)?;
            let number = Text::new(
                format!("{ratio:.4}"),
                (ratio + top * 0.01, at + 0.22),
                ("sans-serif", 13),
            );
            chart.draw_series([number]).map_err(refusal)?;
        }
        let one = [(1.0, 0.0), (1.0, f64::from(rows))];
        chart
            .draw_series(LineSeries::new(one, &BLACK))
            .map_err(refusal)?;
        for ((name, _), row) in ratios.iter().zip(0_u32..) {
            let y = 10 + i32::try_from(row * ROW + ROW / 2)? - 7;
            root.draw(&Text::new(name.clone(), (10, y), ("sans-serif", 14)))
                .map_err(refusal)?;
        }
        root.present().map_err(refusal)?;
    }
    Ok(text)
}

fn colour(ratio: f64, allowed: f64) -> RGBColor {
    match ratio {
        ratio if ratio > 1.0 + allowed => WORSE,
        ratio if ratio < 1.0 - allowed => BETTER,
        _ => SAME,
    }
}

/// The numbers of one operation, the oldest on the left, from 0 upwards.
///
/// # Errors
///
/// When the drawing library refuses.
pub fn trend(name: &str, numbers: &[f64]) -> Result<String> {
    let last = f64::from(u32::try_from(numbers.len())?.max(2) - 1);
    let top = numbers
        .iter()
        .fold(1.0, |top, number| f64::max(top, *number))
        * 1.15;
    let points: Vec<(f64, f64)> = (0_u32..)
        .map(f64::from)
        .zip(numbers.iter().copied())
        .collect();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, TREND).into_drawing_area();
        root.fill(&WHITE).map_err(refusal)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(name, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(8)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..last, 0.0..top)
            .map_err(refusal)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(4)
            .y_label_formatter(&|height| format!("{height:.0}"))
            .draw()
            .map_err(refusal)?;
        let markers = points
            .iter()
            .map(|point| Circle::new(*point, 3, SAME.filled()));
        chart.draw_series(markers).map_err(refusal)?;
        chart
            .draw_series(LineSeries::new(points.clone(), SAME.stroke_width(2)))
            .map_err(refusal)?;
        root.present().map_err(refusal)?;
    }
    Ok(text)
}

/// A bar for each power of two of microseconds, of how many requests took less.
///
/// # Errors
///
/// When the drawing library refuses.
pub fn latencies(name: &str, requests: &[u64]) -> Result<String> {
    let bars: Vec<f64> = requests
        .iter()
        .map(|count| u32::try_from(*count).map(f64::from))
        .collect::<Result<_, _>>()?;
    let end = f64::from(u32::try_from(bars.len())?.max(1));
    let top = bars.iter().fold(1.0, |top, bar| f64::max(top, *bar)) * 1.1;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, TREND).into_drawing_area();
        root.fill(&WHITE).map_err(refusal)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(name, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..end, 0.0..top)
            .map_err(refusal)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .y_labels(4)
            .y_label_formatter(&|height| format!("{height:.0}"))
            .x_label_formatter(&|power| format!("{:.0}", power.exp2()))
            .draw()
            .map_err(refusal)?;
        let bars = (0_u32..).map(f64::from).zip(bars);
        let bars = bars.map(|(left, bar)| {
            Rectangle::new([(left + 0.1, 0.0), (left + 0.9, bar)], SAME.filled())
        });
        chart.draw_series(bars).map_err(refusal)?;
        root.present().map_err(refusal)?;
    }
    Ok(text)
}

fn refusal(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_has_the_colour_of_what_it_says() {
        let of = |ratio| colour(ratio, 0.005);
        assert_eq!((of(1.006), of(0.994)), (WORSE, BETTER));
        assert_eq!((of(1.005), of(0.996), of(1.0)), (SAME, SAME, SAME));
        let plot = ratios(&[("read".into(), 1.5), ("write".into(), 0.5)], 0.005).unwrap();
        assert!(plot.contains("#D55E00") && plot.contains("#009E73") && !plot.contains("#0072B2"));
        assert!(plot.contains("1.5000") && plot.contains("read") && plot.contains("write"));
    }

    #[test]
    fn latencies_have_a_bar_for_each_power() {
        let plot = latencies("READ", &[0, 3, 1]).unwrap();
        assert_eq!(plot.matches("#0072B2").count(), 3);
        latencies("READ", &[]).unwrap();
    }

    #[test]
    fn a_trend_has_a_point_for_each_run() {
        for count in [0, 1, 3] {
            let plot = trend("lookup", &vec![5987.0; count]).unwrap();
            assert_eq!(plot.matches("<circle").count(), count);
        }
    }
}
