//! Plain text for people, in messages of our own.

/// Appends a paragraph, wrapped at 72 columns (RFC 5322 2.1.1 asks for 78 at most).
pub fn paragraph(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > 72 {
            out.push_str("\r\n");
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_and_lines_are_short() {
        let mut out = String::new();
        let word = "x".repeat(80);
        let text = format!("one  two\nthree {word} four {}", "five ".repeat(20));
        paragraph(&mut out, &text);
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&out), words(&text));
        let is_short = |line: &str| line.len() <= 72 || line == word;
        assert!(out.split("\r\n").all(is_short), "{out}");
    }
}
