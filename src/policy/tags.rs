//! Lists of `tag=value`, as DKIM, DMARC, MTA-STS and TLS-RPT have them (RFC 6376 3.2).

/// More tags than any record has.
const TAGS_MAX: usize = 32;

/// A text that is no list of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTags;

/// The tags of a record in their order, names and values without the white space around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// Reads `text`. A tag that stands twice makes it no list (RFC 6376 3.2).
    pub fn parse(text: &'a str) -> Result<Self, NotTags> {
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let text = text.trim_matches(is_space);
        let text = text.strip_suffix(';').unwrap_or(text);
        for part in text.split(';') {
            let (name, value) = part.split_once('=').ok_or(NotTags)?;
            let (name, value) = (name.trim_matches(is_space), value.trim_matches(is_space));
            let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let fits =
                name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(named);
            let twice = tags.iter().any(|(other, _)| *other == name);
            if !fits || twice || tags.len() == TAGS_MAX {
                return Err(NotTags);
            }
            tags.push((name, value));
        }
        Ok(Tags(tags))
    }

    /// The value of a tag. Names are case-sensitive (RFC 6376 3.2).
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(tag, _)| *tag == name);
        found.map(|(_, value)| *value)
    }

    /// The first tag, which in most records is the version.
    pub fn first(&self) -> (&'a str, &'a str) {
        // A text without any `=` is no list, so there is one.
        self.0[0]
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<&[(&str, &str)]>) {
        let got = Tags::parse(text).ok().map(|tags| tags.0);
        assert_eq!(got.as_deref(), want, "{text:?}");
    }

    #[test]
    fn lists_of_tags() {
        check("v=DKIM1; p=abc", Some(&[("v", "DKIM1"), ("p", "abc")]));
        check(" v = X ;\r\n\tp=a=b; ", Some(&[("v", "X"), ("p", "a=b")]));
        check("p=", Some(&[("p", "")]));
        check("", None);
        check(";", None);
        check("v=1;;p=2", None);
        check("v=1; v=2", None);
        check("1v=1", None);
        check("v spf1", None);
    }
}
