//! The page around the data: escaping, and a policy under which no script but our own can run.
//!
//! Corpus text is hostile. It stands in the page once, as JSON in a data block in which no `<`
//! remains, and reaches the document through `textContent` only. Were that to fail, the policy
//! allows just the one script and the one style sheet with the hashes given.

use super::gather::Data;
use crate::hash::sha256;

const PAGE: &str = include_str!("page.html");
pub(super) const STYLE: &str = include_str!("page.css");
const SCRIPT: [&str; 5] = [
    include_str!("js/base.js"),
    include_str!("js/charts.js"),
    include_str!("js/overview.js"),
    include_str!("js/concept.js"),
    include_str!("js/neuron.js"),
];

/// The whole file.
pub(super) fn page(data: &Data) -> String {
    let script = unix_lines(&format!("(() => {{\n'use strict';\n{}}})();\n", SCRIPT.concat()));
    let style = unix_lines(STYLE);
    let json = serde_json::to_string(data).expect("names and numbers are always JSON");
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'",
        base64(&sha256(script.as_bytes())),
        base64(&sha256(style.as_bytes())),
    );
    // One pass over the template: what is put in is never searched for further places.
    let mut page = String::with_capacity(json.len() + script.len() + style.len() + 4096);
    let template = unix_lines(PAGE);
    for (i, part) in template.split("@@").enumerate() {
        match part {
            "POLICY" if i % 2 == 1 => page.push_str(&policy),
            "STYLE" if i % 2 == 1 => page.push_str(&style),
            "SCRIPT" if i % 2 == 1 => page.push_str(&script),
            "DATA" if i % 2 == 1 => escape_json(&json, &mut page),
            text => page.push_str(text),
        }
    }
    page
}

/// A text inside an element or an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Browsers hash a script after its line ends are made `\n`; so do we.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// Inside JSON these characters occur in strings only, where an escape means the same. Without
/// `<` no tag or comment can begin; U+2028 and U+2029 end lines in older scripts.
pub(super) fn escape_json(json: &str, out: &mut String) {
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let byte = |i: usize| three.get(i).map_or(0, |&b| usize::from(b));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let used = digit <= three.len();
            out.push(if used { char::from(DIGITS[bits >> (18 - 6 * digit) & 63]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: the test vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    /// Oracle: the HTML specification: a script element ends at `</script`, and `<!--` changes
    /// how it is read.
    #[test]
    fn our_own_script_and_style_close_nothing() {
        for text in SCRIPT.iter().chain([&STYLE]) {
            let text = text.to_ascii_lowercase();
            assert!(!text.contains("</script") && !text.contains("<!--"));
            assert!(!text.contains("</style") && !text.contains("<script"));
        }
        assert_eq!(PAGE.split("@@").count(), 9, "four places, once each");
    }
}
