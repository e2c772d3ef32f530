//! What the words of a sendmail command mean. Much of what they once meant is no question any more;
//! that is taken and does nothing.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::wire::smtp::{DsnReturn, Notify};

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Deliver,
    /// -bp: list the queue.
    List,
    /// -bs: SMTP on standard input and output.
    Smtp,
    /// -bi, -q: of no consequence here.
    Nothing,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub mode: Mode,
    /// -C.
    pub config: Option<PathBuf>,
    /// -t: recipients are those of To, Cc and Bcc.
    pub is_from_header: bool,
    /// Without -i a line of one dot ends the message.
    pub is_dot_end: bool,
    /// -f, -r.
    pub sender: Option<String>,
    /// -F.
    pub full_name: Option<String>,
    /// -N.
    pub notify: Option<Notify>,
    /// -R.
    pub ret: Option<DsnReturn>,
    /// -V.
    pub envelope_id: Option<String>,
    pub recipients: Vec<String>,
}

/// Options with a value that says nothing to us.
const IDLE_WITH_VALUE: &str = "BhLOpXdDAeM";
/// Options alone, as well.
const IDLE: &str = "nvmUGxcsE";

/// What they mean, or what is wrong with them.
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    let mut all = Arguments {
        is_dot_end: true,
        ..Arguments::default()
    };
    let mut words = words.map(|word| {
        let word = word.into_string();
        word.map_err(|word| format!("{}: not UTF-8", word.to_string_lossy()))
    });
    let mut is_over = false;
    while let Some(word) = words.next() {
        let word = word?;
        match word.as_str() {
            "--" if !is_over => is_over = true,
            "--config" if !is_over => {
                let value = words.next().ok_or("--config needs a file")??;
                all.config = Some(value.into());
            }
            option if !is_over && option.starts_with('-') && option.len() > 1 => {
                all.options(&option[1..], &mut || words.next().transpose())?;
            }
            _ => all.recipients.push(word),
        }
    }
    Ok(all)
}

impl Arguments {
    /// The letters of one word. The value of one is the rest of the word, or else the next word.
    fn options(
        &mut self,
        letters: &str,
        next: &mut dyn FnMut() -> Result<Option<String>, String>,
    ) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            let mut value = || match rest {
                "" => next()?.ok_or_else(|| format!("-{letter} needs a value")),
                rest => Ok(rest.to_owned()),
            };
            match letter {
                't' => self.is_from_header = true,
                'i' => self.is_dot_end = false,
                'I' => self.mode = Mode::Nothing,
                'q' => {
                    // With or without a time: what waits is tried when it is due.
                    if self.mode == Mode::Deliver {
                        self.mode = Mode::Nothing;
                    }
                    return Ok(());
                }
                letter if IDLE.contains(letter) => {}
                'o' => {
                    let option = value()?;
                    self.is_dot_end &= option != "i";
                    return Ok(());
                }
                letter if IDLE_WITH_VALUE.contains(letter) => return value().map(drop),
                'b' => return self.mode(&value()?),
                letter => return self.named(letter, value()?),
            }
        }
        Ok(())
    }

    fn mode(&mut self, value: &str) -> Result<(), String> {
        self.mode = match value {
            "m" => Mode::Deliver,
            "p" => Mode::List,
            "s" => Mode::Smtp,
            "i" | "h" | "H" => Mode::Nothing,
            "d" | "D" => {
                return Err(format!("-b{value}: the server is run by palomar serve"));
            }
            "v" => return Err("-bv: palomar route ADDRESS tells where mail would go".to_owned()),
            _ => return Err(format!("-b{value}: not known here")),
        };
        Ok(())
    }

    fn named(&mut self, letter: char, value: String) -> Result<(), String> {
        match letter {
            'f' | 'r' => self.sender = Some(value),
            'F' => self.full_name = Some(value),
            'C' => self.config = Some(value.into()),
            'V' => self.envelope_id = Some(value),
            'N' => self.notify = Some(notify(&value)?),
            'R' => {
                self.ret = Some(match value.to_ascii_lowercase().as_str() {
                    "full" => DsnReturn::Full,
                    "hdrs" => DsnReturn::Headers,
                    _ => return Err(format!("-R {value}: full or hdrs")),
                });
            }
            letter => return Err(format!("-{letter}: not known here")),
        }
        Ok(())
    }
}

fn notify(value: &str) -> Result<Notify, String> {
    let mut notify = Notify::default();
    for word in value.split(',') {
        match word.to_ascii_lowercase().as_str() {
            "never" => {}
            "success" => notify.success = true,
            "failure" => notify.failure = true,
            "delay" => notify.delay = true,
            _ => {
                return Err(format!(
                    "-N {value}: never, or some of success,failure,delay"
                ));
            }
        }
    }
    Ok(notify)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Arguments, String> {
        parse(words.split_ascii_whitespace().map(OsString::from))
    }

    #[test]
    fn words_as_programs_write_them() {
        let check = |words: &str, change: fn(&mut Arguments)| {
            let mut want = Arguments {
                is_dot_end: true,
                ..Arguments::default()
            };
            change(&mut want);
            assert_eq!(parsed(words), Ok(want), "{words}");
        };
        // PHP, cron, mutt, git, logwatch, monit.
        check("-t -i", |a| {
            a.is_from_header = true;
            a.is_dot_end = false;
        });
        check("-FCronDaemon -i -odi -oem -oi -t -f root", |a| {
            a.full_name = Some("CronDaemon".into());
            a.is_from_header = true;
            a.is_dot_end = false;
            a.sender = Some("root".into());
        });
        check("-oem -oi -f ana@play.test -- bea@x.test -odd", |a| {
            a.is_dot_end = false;
            a.sender = Some("ana@play.test".into());
            a.recipients = vec!["bea@x.test".into(), "-odd".into()];
        });
        check("-ti -fana@x.test", |a| {
            a.is_from_header = true;
            a.is_dot_end = false;
            a.sender = Some("ana@x.test".into());
        });
        check(
            "-bm -B 8BITMIME -O DeliveryMode=b -N failure,delay -R hdrs -V id root",
            |a| {
                a.notify = Some(Notify {
                    success: false,
                    failure: true,
                    delay: true,
                });
                a.ret = Some(DsnReturn::Headers);
                a.envelope_id = Some("id".into());
                a.recipients = vec!["root".into()];
            },
        );
        check("-bp", |a| a.mode = Mode::List);
        check("-bs", |a| a.mode = Mode::Smtp);
        check("-q30m", |a| a.mode = Mode::Nothing);
        check("-bi", |a| a.mode = Mode::Nothing);
        check("-C x.toml a", |a| {
            a.config = Some("x.toml".into());
            a.recipients = vec!["a".into()];
        });
    }

    #[test]
    fn words_that_mean_nothing() {
        for words in ["-f", "-bd", "-bz", "-Z", "-N often", "-R half", "--config"] {
            assert!(parsed(words).is_err(), "{words}");
        }
    }
}
