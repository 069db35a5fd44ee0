//! The only place that writes to stdout.

use std::io::{ErrorKind, Write as _};

use crate::error::{Error, Result};

/// What errors call it.
const STDOUT: &str = "standard output";

/// Writes results to stdout, whole.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Error::io(STDOUT, "write"))
}

/// Writes a value to stdout as indented JSON and a newline.
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

/// Whether the error is only that the reader of our stdout has gone (`electrode methods | head`).
pub fn reader_left(error: &Error) -> bool {
    matches!(error, Error::Io { path, source, .. }
        if path.as_os_str() == STDOUT && source.kind() == ErrorKind::BrokenPipe)
}

/// Rows as aligned columns under a header, two blanks between them, no blanks at line ends.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(&mut header.iter().copied());
    for row in rows {
        out += &line(&mut row.iter().map(String::as_str));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".to_owned(), "bcd".to_owned()], vec!["éé".to_owned(), String::new()]];
        assert_eq!(table(&["x", "y"], &rows), "x   y\na   bcd\néé\n");
    }
}
