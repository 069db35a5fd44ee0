//! Heat maps of concepts against layers, small and side by side, as SVG.

use std::fmt::Write as _;

use super::html::escape;
use super::overview::{COUNTED, Map, more, visible};

/// Maps that are drawn, and concepts of a map.
const MAPS: usize = 120;
const CONCEPTS: usize = 60;
/// Characters of a concept beside a map; the whole name shows under the pointer.
const SHORT: usize = 20;
/// A cell, and the room for names.
const CELL: usize = 14;
const NAMES: usize = 132;
const HEAD: usize = 16;

/// The maps by method: points stand side by side.
pub(super) fn layer_maps(body: &mut String, maps: &[Map]) {
    if maps.is_empty() {
        return;
    }
    let _ = write!(
        body,
        "<h2>Where methods find concepts</h2><p>The layers of the first {COUNTED} neurons of each \
         ranking: the darker, the more of them. Random rankings show what chance does.</p>"
    );
    let mut methods: Vec<&str> = Vec::new();
    for map in maps {
        if !methods.contains(&map.method.as_str()) {
            methods.push(&map.method);
        }
    }
    let mut drawn = 0;
    for method in methods {
        let of_method = maps.iter().filter(|map| map.method == method);
        let of_method: Vec<&Map> = of_method.take(MAPS - drawn).collect();
        if of_method.is_empty() {
            break;
        }
        drawn += of_method.len();
        let _ = write!(body, "<h3>{}</h3><div class=\"maps\">", escape(&visible(method)));
        of_method.iter().for_each(|map| draw(body, map));
        body.push_str("</div>");
    }
    more(body, maps.len(), MAPS, "maps");
}

fn draw(body: &mut String, map: &Map) {
    let concepts = &map.concepts[..map.concepts.len().min(CONCEPTS)];
    let (width, height) = (NAMES + CELL * map.layers.len(), HEAD + CELL * (concepts.len() + 1));
    let _ = write!(
        body,
        "<figure><figcaption>{}<br><span class=\"n\">{}</span></figcaption>\
         <svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"concepts against layers\">",
        escape(&visible(&map.point)),
        escape(&visible(&map.model)),
    );
    for (column, layer) in map.layers.iter().enumerate() {
        // Every fifth layer of many.
        if map.layers.len() > 12 && layer.is_none_or(|layer| layer % 5 != 0) {
            continue;
        }
        let name = layer.map_or_else(|| "–".to_owned(), |layer| layer.to_string());
        let x = NAMES + CELL * column + CELL / 2;
        let _ = write!(
            body,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-size=\"10\">{name}</text>",
            HEAD - 5
        );
    }
    for (row, (concept, counts)) in concepts.iter().enumerate() {
        draw_row(body, (&visible(concept), counts), (map, HEAD + CELL * row));
    }
    body.push_str("</svg>");
    if map.concepts.len() > CONCEPTS {
        let _ = write!(body, "<p>and {} more concepts</p>", map.concepts.len() - CONCEPTS);
    }
    body.push_str("</figure>");
}

/// A concept: its name, and a cell for each layer.
fn draw_row(body: &mut String, (concept, counts): (&str, &[u32]), (map, y): (&Map, usize)) {
    let all: u32 = counts.iter().sum();
    let mut short: String = concept.chars().take(SHORT).collect();
    if concept.chars().nth(SHORT).is_some() {
        short.push('…');
    }
    let _ = write!(
        body,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"11\">{}</text>",
        NAMES - 6,
        y + CELL - 3,
        escape(&short),
    );
    for (column, (count, layer)) in counts.iter().zip(&map.layers).enumerate() {
        let share = 100.0 * f64::from(*count) / f64::from(all.max(1));
        let layer = layer.map_or_else(|| "no layer".to_owned(), |layer| format!("layer {layer}"));
        let _ = write!(
            body,
            "<rect x=\"{}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" \
             fill=\"color-mix(in srgb,var(--accent) {:.0}%,var(--q0))\">\
             <title>{}, {layer}: {count} of {all}</title></rect>",
            NAMES + CELL * column,
            share,
            escape(concept),
            side = CELL - 1,
        );
    }
}
