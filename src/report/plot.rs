//! Lines with error bars, as SVG.

use std::fmt::Write as _;

use crate::report::html::escape;

/// A point and the standard error of its height.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) error: f64,
}

/// A line with its name.
pub(super) struct Line {
    pub(super) name: String,
    /// Drawn faint and dashed, to compare with.
    pub(super) random: bool,
    /// Ascending.
    pub(super) points: Vec<Point>,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// Variables of the style sheet.
const COLOURS: usize = 8;

/// Shares (0 to 1) against a dose, the dose by its rank: doses grow by factors.
pub(super) fn plot(lines: &[Line], (x_name, y_name): (&str, &str)) -> String {
    let mut doses: Vec<f64> =
        lines.iter().flat_map(|line| line.points.iter().map(|point| point.x)).collect();
    doses.sort_by(f64::total_cmp);
    doses.dedup();
    let step = (WIDTH - LEFT - RIGHT) / (doses.len().max(2) - 1) as f64;
    let x = |dose: f64| {
        LEFT + step * doses.iter().position(|one| *one == dose).unwrap_or_default() as f64
    };
    let y = |share: f64| TOP + (1.0 - share.clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} against {}\">",
        escape(y_name),
        escape(x_name),
    );
    for tenth in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{h:.1}\" y2=\"{h:.1}\" stroke=\"var(--line)\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(tenth) + 4.0,
            100.0 * tenth,
            h = y(tenth),
        );
    }
    for dose in &doses {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{dose}</text>",
            x(*dose),
            HEIGHT - BOTTOM + 18.0,
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escape(x_name),
    );
    for (index, line) in lines.iter().enumerate() {
        draw(&mut svg, (index, line), &x, &y);
    }
    svg.push_str("</svg>");
    svg
}

fn draw(
    svg: &mut String,
    (index, line): (usize, &Line),
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
) {
    // A method and the random sets beside it follow each other, in one colour.
    let colour = format!("var(--k{})", (index / 2) % COLOURS);
    let style = if line.random { " stroke-dasharray=\"4 4\" stroke-opacity=\".6\"" } else { "" };
    let path: Vec<String> =
        line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.x), y(point.y))).collect();
    let _ = write!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{style}/>",
        path.join(" "),
    );
    for point in &line.points {
        let _ = write!(
            svg,
            "<line x1=\"{h:.1}\" x2=\"{h:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"{style}/>",
            y(point.y - point.error),
            y(point.y + point.error),
            h = x(point.x),
        );
    }
    let at = TOP + 12.0 + 18.0 * index as f64;
    let from = WIDTH - RIGHT + 14.0;
    let _ = write!(
        svg,
        "<line x1=\"{from:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{colour}\" \
         stroke-width=\"2\"{style}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        from + 22.0,
        from + 28.0,
        at + 4.0,
        escape(&line.name),
    );
}
