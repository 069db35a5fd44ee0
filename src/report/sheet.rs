//! Pages without script: a sheet of headings, tables and plots.

use std::fmt::Write as _;

use super::html::{STYLE, escape};

const OWN: &str = "
.sheet { max-width: 64rem; margin: 0 auto; padding: 1.5rem; }
.sheet h1, .sheet h2 { font-family: var(--serif); }
.sheet table { border-collapse: collapse; margin: .6rem 0 1.6rem; font-size: .9rem; }
.sheet th, .sheet td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
.sheet table:not(.heat) th { color: var(--soft); font-weight: 500; text-align: right; }
.sheet td.name, .sheet table:not(.heat) th.name { text-align: left; }
.sheet svg { max-width: 100%; height: auto; font: 12px var(--sans); fill: var(--soft); }
.sheet p { color: var(--soft); }
.sheet .texts td, .sheet .texts table:not(.heat) th { text-align: left; }
.sheet .facts table { width: auto; }
.sheet > svg { display: block; margin: .4rem 0 1.6rem; }
.sheet .maps { display: flex; flex-wrap: wrap; gap: .8rem 1.6rem; }
.sheet figure { margin: 0 0 .8rem; }
.sheet figcaption { font-size: .86rem; overflow-wrap: anywhere; max-width: 26rem; }
";

/// The whole page.
pub(super) fn sheet(name: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}{OWN}</style></head>\n\
         <body><main class=\"sheet\"><h1>{title}</h1>\n{body}</main></body></html>\n",
        title = escape(name),
    )
}

/// A table with these heads.
pub(super) fn table(body: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let class = |column: usize| if column == 0 { " class=\"name\"" } else { "" };
    body.push_str("<table><thead><tr>");
    for (column, head) in heads.iter().enumerate() {
        let _ = write!(body, "<th{}>{head}</th>", class(column));
    }
    body.push_str("</tr></thead><tbody>");
    for row in rows {
        body.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(body, "<td{}>{}</td>", class(column), escape(cell));
        }
        body.push_str("</tr>");
    }
    body.push_str("</tbody></table>");
}

/// A share with its standard error.
pub(super) fn percent(share: f64, error: f64) -> String {
    format!("{:.1} ± {:.1} %", 100.0 * share, 100.0 * error)
}
