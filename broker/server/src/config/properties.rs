//! Java's properties format, which `server.properties` is written in.
//!
//! Comments start with `#` or `!`; key and value are parted by `=`, `:` or white space; a backslash
//! at the end of a line continues it; `\t`, `\n`, `\r`, `\f` and `\uXXXX` are escapes.

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PropertiesError {
    line: usize,
    problem: &'static str,
}

/// Reads the text of a properties file into pairs, in the order of the file.
///
/// # Errors
/// A line has a bad escape or no key.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, PropertiesError> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let problem = |problem| PropertiesError {
            line: index + 1,
            problem,
        };
        let (key, value) = split(&logical);
        let key = unescape(key).map_err(problem)?;
        if key.is_empty() {
            return Err(problem("no key before the separator"));
        }
        // Kafka trims values; a trailing blank in a number would be a puzzle otherwise.
        pairs.push((key, unescape(value).map_err(problem)?.trim_end().to_owned()));
    }
    Ok(pairs)
}

fn ends_in_continuation(line: &str) -> bool {
    line.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (position, character) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == '=' || character == ':' || character.is_whitespace() {
            let (key, rest) = line.split_at(position);
            let rest = rest.trim_start();
            return (
                key,
                rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start(),
            );
        }
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let unit = (digits.len() == 4).then(|| u32::from_str_radix(&digits, 16).ok());
                let decoded = unit.flatten().and_then(char::from_u32);
                plain.push(decoded.ok_or("\\u wants four hexadecimal digits")?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_java_reads_are_read() {
        let text = "# comment\n! another\n\nnode.id=1\n a : b c \nc d\nlong=x,\\\n   y\nesc\\=k=\\u0041\\t.\nempty\n";
        let pairs = parse(text).unwrap();
        let expected = [
            ("node.id", "1"),
            ("a", "b c"),
            ("c", "d"),
            ("long", "x,y"),
            ("esc=k", "A\t."),
            ("empty", ""),
        ];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_bad_escape_names_its_line() {
        assert_eq!(
            parse("a=1\nb=\\u12").unwrap_err().to_string(),
            "line 2: \\u wants four hexadecimal digits"
        );
        assert!(parse("=x").is_err());
    }
}
