//! Plots for papers and slides, as SVG and PNG: every metric over time, and all settings at a glance.
//!
//! One drawing serves both: the SVG is what plotters draws, the PNG is the same SVG in pixels, with a font that is part
//! of the program, so that no system font is needed and all machines give the same picture.

use std::sync::Arc;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use resvg::{tiny_skia, usvg};

use super::{
    ReportError,
    axes::Against,
    columns::Better,
    files::scope,
    study::Study,
    summary::{Curves, Filled, Stat},
};

/// Rows of a plot over time; more lines cannot be told apart.
const LINES: usize = 12;
/// Rows of the plot of all settings.
const ROWS: usize = 40;
/// Pixels of the PNG for one of the SVG.
const SCALE: f32 = 2.0;
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2c);
const FAINT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A drawing and its name without extension.
pub(super) struct Plot {
    pub name: String,
    pub svg: String,
}

/// All plots of a report.
///
/// # Errors
/// [`ReportError::Drawing`].
pub(super) fn plots(study: &Study, table: &[Filled], curves: &[Curves]) -> Result<Vec<Plot>, ReportError> {
    let mut plots = Vec::new();
    for one in curves {
        let rows = one.rows.iter().take(LINES).filter(|row| !row.is_empty()).count();
        let size = (900, 460.max(96 + 20 * rows as u32));
        plots.push(draw(&format!("curve-{}", one.metric.key), size, |area| {
            over_time(area, study, one)
        })?);
    }
    let panels: Vec<_> = table
        .iter()
        .filter(|filled| filled.column.better != Better::Unknown)
        .collect();
    if !panels.is_empty() {
        let (columns, lines) = grid(panels.len());
        let rows = study.rows.len().min(ROWS) as u32;
        let size = (LABELS + 230 * columns, 60 + lines * (74 + 22 * rows));
        plots.push(draw("summary", size, |area| summary(area, study, &panels))?);
    }
    if let Some(against) = study.against().filter(|_| !table.is_empty()) {
        let (columns, lines) = grid(table.len());
        let size = (20 + 250 * columns, 60 + 210 * lines);
        let name = format!("against-{}", against.name.replace(' ', "-"));
        plots.push(draw(&name, size, |area| over_values(area, study, table, against))?);
    }
    Ok(plots)
}

fn draw(name: &str, size: (u32, u32), draw: impl FnOnce(&Area) -> Drawn) -> Result<Plot, ReportError> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let filled = area.fill(&WHITE).map_err(Into::into);
        filled.and_then(|()| draw(&area)).and_then(|()| Ok(area.present()?))
    };
    match drawn {
        Ok(()) => Ok(Plot { name: name.into(), svg }),
        Err(error) => Err(ReportError::Drawing {
            name: name.into(),
            reason: error.to_string(),
        }),
    }
}

fn ink(colour: RGBColor, size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn rgb(study: &Study, row: usize) -> RGBColor {
    let [r, g, b] = study.colour(row);
    RGBColor(r, g, b)
}

/// Text of at most `most` letters, without what no SVG may hold.
fn cut(text: &str, most: usize) -> String {
    let allowed = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let text: String = text.chars().map(|c| if allowed(c) { c } else { ' ' }).collect();
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text,
    }
}

/// Where curves lie: seconds, and values with some room.
fn bounds(rows: &[&[Option<Stat>]]) -> (f64, f64, f64) {
    let stats = || rows.iter().flat_map(|row| row.iter().flatten());
    let ends = stats().flat_map(|stat| [stat.mean - stat.std.unwrap_or(0.0), stat.mean + stat.std.unwrap_or(0.0)]);
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let room = match high - low {
        range if range < 1e-9 => (high.abs() * 0.05).max(0.5),
        range => (range * 0.06).max(high.abs() * 1e-3),
    };
    let seconds = rows.iter().map(|row| row.len()).max().unwrap_or(1);
    (seconds.max(1) as f64, low - room, high + room)
}

fn over_time(area: &Area, study: &Study, curves: &Curves) -> Drawn {
    let total = study.rows.len();
    let rows: Vec<_> = curves.rows.iter().take(LINES).map(Vec::as_slice).collect();
    let (seconds, low, high) = bounds(&rows);
    let (chart, legend) = area.split_horizontally(680);
    let title = format!("{}, {}", curves.metric.name, curves.unit());
    area.draw(&Text::new(title, (20, 16), ink(INK, 20)))?;
    let mut chart = ChartBuilder::on(&chart)
        .margin_top(50)
        .margin_right(10)
        .margin_left(14)
        .margin_bottom(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..seconds, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .label_style(ink(FAINT, 14))
        .x_desc("seconds")
        .axis_desc_style(ink(FAINT, 14))
        .y_label_formatter(&|value| short(*value, high - low))
        .x_label_formatter(&|value| short(*value, seconds))
        .draw()?;
    for (row, curve) in rows.iter().enumerate() {
        let colour = rgb(study, row);
        for part in parts(curve) {
            let upper = part.iter().map(|(at, stat)| (*at, stat.mean + stat.std.unwrap_or(0.0)));
            let lower = part
                .iter()
                .rev()
                .map(|(at, stat)| (*at, stat.mean - stat.std.unwrap_or(0.0)));
            if part.iter().any(|(_, stat)| stat.std.is_some()) {
                let band: Vec<_> = upper.chain(lower).collect();
                chart.draw_series([Polygon::new(band, colour.mix(0.13))])?;
            }
            let line = part.iter().map(|(at, stat)| (*at, stat.mean));
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        }
    }
    let mut y = 58;
    for (row, curve) in rows.iter().enumerate().filter(|(_, curve)| !curve.is_empty()) {
        let colour = rgb(study, row);
        legend.draw(&PathElement::new([(6, y), (30, y)], colour.stroke_width(3)))?;
        let n = curve.iter().flatten().map(|stat| stat.n).max().unwrap_or(0);
        let label = format!("{} (n = {n})", cut(&study.rows[row].label, 16));
        legend.draw(&Text::new(label, (38, y), middle(ink(INK, 14))))?;
        y += 20;
    }
    let below = match total > LINES {
        true => format!("first {LINES} of {total}"),
        false => "band: ± 1 std".into(),
    };
    legend.draw(&Text::new(below, (6, y + 6), middle(ink(FAINT, 13))))?;
    Ok(())
}

fn middle(style: TextStyle) -> TextStyle {
    style.pos(Pos::new(HPos::Left, VPos::Center))
}

/// The stretches of a curve without a gap, each value in the middle of its second.
fn parts(curve: &[Option<Stat>]) -> Vec<Vec<(f64, Stat)>> {
    let mut parts = vec![Vec::new()];
    for (second, stat) in curve.iter().enumerate() {
        match (stat, parts.last_mut()) {
            (Some(stat), Some(part)) => part.push((second as f64 + 0.5, *stat)),
            _ => parts.push(Vec::new()),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// A number on an axis that spans `range`.
fn short(value: f64, range: f64) -> String {
    let digits = (1.0 - range.max(1e-9).log10().floor()).clamp(0.0, 4.0) as usize;
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    // No minus before a zero.
    if text == "-0" { "0".into() } else { text.into() }
}

/// Width of the labels left of all panels.
const LABELS: u32 = 170;
/// Pixels of a panel above and below its rows: its title, its numbers.
const ABOVE: u32 = 30;
const NUMBERS: u32 = 22;
const BELOW: u32 = 8;

fn grid(panels: usize) -> (u32, u32) {
    let columns = panels.min(4);
    (columns as u32, panels.div_ceil(columns) as u32)
}

/// One panel per column of the table: the mean of every row with its spread.
fn summary(area: &Area, study: &Study, panels: &[&Filled]) -> Drawn {
    let (columns, lines) = grid(panels.len());
    let rows = study.rows.len().min(ROWS);
    let note = "mean ± std; ring: best mean of its panel";
    let title = format!("{} ({note})", cut(&scope(study), 90));
    area.draw(&Text::new(title, (16, 14), ink(INK, 16)))?;
    let (_, body) = area.split_vertically(44);
    let height = body.dim_in_pixel().1 / lines;
    for (number, filled) in panels.iter().enumerate() {
        let (column, line) = (number as u32 % columns, number as u32 / columns);
        let left = (LABELS + 230 * column) as i32;
        let top = (height * line) as i32;
        let panel = body.clone().shrink((left, top), (216, height));
        if column == 0 {
            for (row, label) in study.rows.iter().take(rows).enumerate() {
                let style = ink(INK, 13).pos(Pos::new(HPos::Right, VPos::Center));
                let high = f64::from(height - ABOVE - NUMBERS - BELOW) / rows as f64;
                let middle = f64::from(ABOVE) + (row as f64 + 0.5) * high;
                let at = (LABELS as i32 - 8, top + middle as i32);
                body.draw(&Text::new(cut(&label.label, 22), at, style))?;
            }
        }
        one_panel(&panel, study, filled, rows)?;
    }
    Ok(())
}

fn one_panel(panel: &Area, study: &Study, filled: &Filled, rows: usize) -> Drawn {
    let title = format!("{} {}", filled.column.title, filled.column.better.sign());
    panel.draw(&Text::new(title, (4, 8), ink(INK, 14)))?;
    let stats: Vec<_> = filled.cells.iter().take(rows).map(|cell| cell.stat).collect();
    let (_, mut low, mut high) = bounds(&[&stats]);
    if let Better::Near(best) = filled.column.better {
        (low, high) = (
            low.min(best - 0.02 * (high - low)),
            high.max(best + 0.02 * (high - low)),
        );
    }
    let mut chart = ChartBuilder::on(panel)
        .margin_top(ABOVE)
        .margin_bottom(BELOW)
        .margin_right(6)
        .margin_left(4)
        .x_label_area_size(NUMBERS)
        .build_cartesian_2d(low..high, (rows as f64)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_axis()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .x_labels(4)
        .label_style(ink(FAINT, 12))
        .x_label_formatter(&|value| short(*value, high - low))
        .draw()?;
    if let Better::Near(best) = filled.column.better {
        let line = PathElement::new([(best, 0.0), (best, rows as f64)], FAINT.stroke_width(1));
        chart.draw_series([line])?;
    }
    for (row, cell) in filled.cells.iter().take(rows).enumerate() {
        let Some(stat) = cell.stat else { continue };
        let (colour, y) = (rgb(study, row), row as f64 + 0.5);
        if let Some(std) = stat.std {
            let ends = [(stat.mean - std, y), (stat.mean + std, y)];
            chart.draw_series([PathElement::new(ends, colour.stroke_width(2))])?;
        }
        chart.draw_series([Circle::new((stat.mean, y), 4, colour.filled())])?;
        if cell.best {
            chart.draw_series([Circle::new((stat.mean, y), 7, INK.stroke_width(1))])?;
        }
    }
    Ok(())
}

/// One panel per column of the table: its means against the number that rows differ in, as in the paper's figure 5.
fn over_values(area: &Area, study: &Study, table: &[Filled], against: &Against) -> Drawn {
    let (columns, lines) = grid(table.len());
    let title = format!("against {} (mean ± std): {}", against.name, cut(&scope(study), 90));
    area.draw(&Text::new(title, (16, 14), ink(INK, 16)))?;
    let (_, body) = area.split_vertically(44);
    let height = body.dim_in_pixel().1 / lines;
    for (number, filled) in table.iter().enumerate() {
        let (column, line) = (number as u32 % columns, number as u32 / columns);
        let corner = ((10 + 250 * column) as i32, (height * line) as i32);
        one_against(&body.clone().shrink(corner, (236, height)), study, filled, against)?;
    }
    Ok(())
}

fn one_against(panel: &Area, study: &Study, filled: &Filled, against: &Against) -> Drawn {
    let title = format!("{} {}", filled.column.title, filled.column.better.sign());
    panel.draw(&Text::new(title, (4, 8), ink(INK, 14)))?;
    let points = || against.lines.iter().flat_map(|line| &line.points);
    let stats: Vec<_> = points().map(|(_, row)| filled.cells[*row].stat).collect();
    if stats.iter().all(Option::is_none) {
        return Ok(());
    }
    let (_, low, high) = bounds(&[&stats]);
    let ends = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (value, _)| {
        (least.min(*value), most.max(*value))
    });
    let room = ((ends.1 - ends.0) * 0.06).max(1e-9);
    let (least, most) = (ends.0 - room, ends.1 + room);
    let mut chart = ChartBuilder::on(panel)
        .margin_top(ABOVE)
        .margin_right(10)
        .x_label_area_size(38)
        .y_label_area_size(44)
        .build_cartesian_2d(least..most, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .x_labels(6)
        .y_labels(4)
        .label_style(ink(FAINT, 12))
        .x_desc(against.name.clone())
        .axis_desc_style(ink(FAINT, 12))
        .x_label_formatter(&|value| short(*value, most - least))
        .y_label_formatter(&|value| short(*value, high - low))
        .draw()?;
    for line in &against.lines {
        let known = line.points.iter();
        let known: Vec<_> = known
            .filter_map(|(value, row)| Some((*value, *row, filled.cells[*row].stat?)))
            .collect();
        let means = known.iter().map(|(value, _, stat)| (*value, stat.mean));
        chart.draw_series(LineSeries::new(means, FAINT.stroke_width(1)))?;
        for (value, row, stat) in known {
            let colour = rgb(study, row);
            if let Some(std) = stat.std {
                let ends = [(value, stat.mean - std), (value, stat.mean + std)];
                chart.draw_series([PathElement::new(ends, colour.stroke_width(2))])?;
            }
            chart.draw_series([Circle::new((value, stat.mean), 4, colour.filled())])?;
        }
        if let (true, Some((value, row))) = (against.lines.len() > 1, line.points.last())
            && let Some(stat) = filled.cells[*row].stat
        {
            let style = ink(INK, 11).pos(Pos::new(HPos::Right, VPos::Bottom));
            chart.draw_series([Text::new(cut(&line.label, 20), (*value, stat.mean), style)])?;
        }
    }
    Ok(())
}

/// Draws SVGs as PNG.
pub(super) struct Painter {
    options: usvg::Options<'static>,
}

impl Painter {
    pub fn new() -> Self {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        let options = usvg::Options {
            font_family: "DejaVu Sans".into(),
            fontdb: Arc::new(fonts),
            ..usvg::Options::default()
        };
        Self { options }
    }

    /// The plot in pixels.
    ///
    /// # Errors
    /// [`ReportError::Drawing`].
    pub fn png(&self, plot: &Plot) -> Result<Vec<u8>, ReportError> {
        let wrong = |reason: String| ReportError::Drawing {
            name: plot.name.clone(),
            reason,
        };
        let tree = usvg::Tree::from_str(&plot.svg, &self.options).map_err(|error| wrong(error.to_string()))?;
        let side = |length: f32| (length * SCALE).round() as u32;
        let (width, height) = (side(tree.size().width()), side(tree.size().height()));
        let pixels = tiny_skia::Pixmap::new(width, height);
        let mut pixels = pixels.ok_or_else(|| wrong(format!("{width}x{height} pixels")))?;
        let scaled = tiny_skia::Transform::from_scale(SCALE, SCALE);
        resvg::render(&tree, scaled, &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| wrong(error.to_string()))
    }
}
