//! The instructions of the guest as a plot.

use std::fmt::Display;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::plan::{Direction, SIZES, Strategy};
use super::results::KernelResults;
use super::table::{per_mib, size};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 420;

/// The plot's file, beside the document.
#[must_use]
pub fn file_name(kernel: &KernelResults) -> String {
    format!("comparison-{}.svg", kernel.version)
}

/// Reads on the left, writes on the right; the length of the call to the right,
/// instructions for each MiB upwards.
///
/// # Errors
///
/// When the drawing library refuses.
pub fn svg(kernel: &KernelResults) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
        // The reader's page may be dark.
        root.fill(&WHITE).map_err(refusal)?;
        let (left, right) = root.split_horizontally(WIDTH / 2);
        let top = highest(kernel);
        panel(&left, kernel, Direction::Read, top)?;
        panel(&right, kernel, Direction::Write, top)?;
        root.present().map_err(refusal)?;
    }
    Ok(text)
}

/// Thousands of instructions, over both directions, so that both panels have
/// one scale.
fn highest(kernel: &KernelResults) -> f64 {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| {
            Strategy::ALL
                .into_iter()
                .flat_map(move |strategy| line(kernel, direction, strategy))
        })
        .fold(1.0, |top, (_, height)| f64::max(top, height))
        * 1.15
}

/// The points of a strategy: the size's number, thousands of instructions for
/// each MiB. Calls that failed have none.
fn line(kernel: &KernelResults, direction: Direction, strategy: Strategy) -> Vec<(f64, f64)> {
    (0_u32..)
        .zip(SIZES)
        .filter_map(|(index, bytes)| {
            let cost = kernel.cost(direction, bytes, strategy)?;
            let count = u32::try_from(per_mib(cost.guest.least, bytes)).ok()?;
            Some((f64::from(index), f64::from(count) / 1000.0))
        })
        .collect()
}

fn colour(strategy: Strategy) -> RGBColor {
    match strategy {
        Strategy::FlatNocap => RGBColor(0x99, 0x99, 0x99),
        Strategy::Flat => RGBColor(0x00, 0x72, 0xb2),
        Strategy::Scattered => RGBColor(0xd5, 0x5e, 0x00),
        Strategy::PagesFlat => RGBColor(0xcc, 0x79, 0xa7),
        Strategy::Pages => RGBColor(0x00, 0x9e, 0x73),
    }
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    kernel: &KernelResults,
    direction: Direction,
    top: f64,
) -> Result<()> {
    let last = SIZES.len() - 1;
    let right = f64::from(u32::try_from(last)?);
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!("Linux {}: {}", kernel.version, direction.name()),
            ("sans-serif", 18),
        )
        .margin(12)
        // Half of the last label.
        .margin_right(32)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, 0.0..top)
        .map_err(refusal)?;
    let label = |at: &f64| {
        (0_u32..)
            .zip(SIZES)
            .find(|(index, _)| (f64::from(*index) - at).abs() < 0.01)
            .map_or_else(String::new, |(_, bytes)| size(bytes))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(SIZES.len())
        .x_label_formatter(&label)
        .x_desc("length of the call")
        .y_desc("thousands of instructions per MiB, guest")
        .y_label_formatter(&|height| format!("{height:.0}"))
        .draw()
        .map_err(refusal)?;
    for strategy in Strategy::ALL {
        let (points, colour) = (line(kernel, direction, strategy), colour(strategy));
        let markers = points
            .iter()
            .map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(markers).map_err(refusal)?;
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .map_err(refusal)?
            .label(strategy.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(refusal)
}

fn refusal(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}
