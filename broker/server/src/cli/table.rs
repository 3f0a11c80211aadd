//! Tables for people.

use std::borrow::Cow;

/// Text from outside as one line that does to a terminal what it looks like: names of groups and
/// clients may hold anything.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

/// Control characters, and those that turn the direction of what stands around them.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lays rows out in columns as wide as their widest cell.
pub(super) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        let head = header.get(column).map_or(0, |name| name.chars().count());
        cells.max().unwrap_or(0).max(head)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    std::iter::once(line(header.to_vec()))
        .chain(
            rows.iter()
                .map(|row| line(row.iter().map(AsRef::as_ref).collect())),
        )
        .collect::<Vec<_>>()
        .join("\n")
}

/// A size for people: `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "long cell".to_owned()],
            vec!["bb".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            render(&["NAME", "B"], &rows),
            "NAME  B\na     long cell\nbb    x"
        );
    }

    #[test]
    fn text_from_outside_cannot_leave_its_line_or_steer_the_terminal() {
        assert_eq!(clean("group-1 \u{e9}"), "group-1 \u{e9}");
        assert_eq!(clean("a\nb\u{1b}[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}");
        let rows = [vec!["a\rb".to_owned()]];
        assert_eq!(render(&["N"], &rows), "N\na\\rb");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}
