//! Masks what looks like a secret before it reaches a file that people share.

use serde_json::Value;

/// Beginnings of tokens, and how many token characters must follow for it to be one.
const TOKENS: [(&str, usize); 8] = [
    ("hf_", 8),
    ("api_org_", 8),
    ("sk-", 8),
    ("ghp_", 8),
    ("gho_", 8),
    ("github_pat_", 8),
    ("glpat-", 8),
    ("xoxb-", 8),
];

/// The text with tokens (`hf_…`, `sk-…`, …) and the `user:password@` of URLs replaced by `***`.
pub fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before: Option<char> = None;
    while let Some(first) = rest.chars().next() {
        if let Some((kept, skipped)) = secret_at(rest, before) {
            out.push_str(kept);
            out.push_str("***");
            before = Some('*');
            rest = &rest[skipped..];
            continue;
        }
        out.push(first);
        before = Some(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// The first text of a value that holds a secret, masked.
pub fn first_masked(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(mask(text)).filter(|masked| masked != text),
        Value::Array(items) => items.iter().find_map(first_masked),
        Value::Object(map) => map.values().find_map(first_masked),
        _ => None,
    }
}

/// What stays of the secret that `text` begins with, and how many bytes of it go.
fn secret_at(text: &str, before: Option<char>) -> Option<(&str, usize)> {
    if let Some(after) = text.strip_prefix("//") {
        let end = after.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(after.len());
        // The last @ ends the user part, as in browsers: passwords may hold one.
        return after[..end].rfind('@').map(|at| ("//", 2 + at));
    }
    // `task-list` holds no key: a token begins a word.
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let (prefix, least) = TOKENS.iter().find(|(prefix, _)| text.starts_with(prefix))?;
    let body = &text[prefix.len()..];
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let length = body.find(|c| !part(c)).unwrap_or(body.len());
    (length >= *least).then(|| (*prefix, prefix.len() + length))
}

#[cfg(test)]
mod tests {
    use super::mask;

    /// Oracle: read by eye.
    #[test]
    fn tokens_and_passwords_go_and_all_else_stays() {
        let cases = [
            ("hf_abcdEFGH1234", "hf_***"),
            ("a hf_abcdEFGH1234, b", "a hf_***, b"),
            ("x=sk-proj-0123456789_ab", "x=sk-***"),
            ("https://me:pw@host/org?x=1", "https://***@host/org?x=1"),
            ("https://me:p@w@host/a@b", "https://***@host/a@b"),
            ("//token@host", "//***@host"),
            ("hf_short", "hf_short"),
            ("ask-questions-later", "ask-questions-later"),
            ("https://host/path/@user", "https://host/path/@user"),
            ("名詞 hf_", "名詞 hf_"),
            ("", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(mask(given), expected);
        }
    }
}
