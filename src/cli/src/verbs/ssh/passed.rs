//! Options that OpenSSH's programs are passed as they are.

use std::ffi::OsString;
use std::fmt::Debug;
use std::marker::PhantomData;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

/// An option that is there or not: its letter, and what it does.
pub type Flag = (&'static str, &'static str);
/// An option with a value: its letter, the value's name, and what it does.
pub type Valued = (&'static str, &'static str, &'static str);
/// An option with a value that makes no sense with Sparks: its letter, and why.
pub type Refused = (&'static str, &'static str);

/// One of OpenSSH's programs.
pub trait Program: Clone + Debug + 'static {
    /// Options without a value.
    const FLAGS: &'static [Flag];
    /// Options with a value.
    const VALUED: &'static [Valued];
    /// Options with a value that are answered with a sentence.
    const REFUSED: &'static [Refused];
}

/// What a program was given of its options.
#[derive(Clone, Debug)]
pub struct PassedOn<P> {
    words: Vec<OsString>,
    program: PhantomData<P>,
}

impl<P> PassedOn<P> {
    /// The options. Before those of ours, because with OpenSSH the first value of an option wins.
    pub fn into_words(self) -> Vec<OsString> {
        self.words
    }
}

impl<P: Program> FromArgMatches for PassedOn<P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut words = Vec::new();
        for (letter, ..) in P::VALUED {
            let values = matches.get_many::<OsString>(letter).into_iter().flatten();
            words.extend(values.flat_map(|value| [format!("-{letter}").into(), value.clone()]));
        }
        for (letter, _) in P::FLAGS {
            words.extend(matches.get_flag(letter).then(|| OsString::from(format!("-{letter}"))));
        }
        Ok(Self { words, program: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<P: Program> clap::Args for PassedOn<P> {
    fn augment_args(command: Command) -> Command {
        let flags = P::FLAGS.iter().map(|(letter, help)| {
            option(letter).help(help).action(ArgAction::SetTrue).overrides_with(letter)
        });
        let valued = P::VALUED.iter().map(|(letter, name, help)| with_value(letter, name).help(help));
        let refused = P::REFUSED
            .iter()
            .map(|(letter, why)| with_value(letter, "VALUE").hide(true).value_parser(refusal(why)));
        command.args(flags).args(valued).args(refused)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn option(letter: &'static str) -> Arg {
    Arg::new(letter).short(letter.chars().next())
}

fn with_value(letter: &'static str, name: &'static str) -> Arg {
    // getopt(3) takes whatever comes next.
    let arg = option(letter).value_name(name).action(ArgAction::Append).allow_hyphen_values(true);
    arg.value_parser(ValueParser::os_string())
}

fn refusal(why: &'static str) -> ValueParser {
    ValueParser::new(move |_: &str| Err::<OsString, _>(why))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Clone, Debug)]
    struct Any;

    impl Program for Any {
        const FLAGS: &'static [Flag] = &[("t", "a flag"), ("4", "another")];
        const VALUED: &'static [Valued] = &[("o", "NAME=VALUE", "an option"), ("e", "CHAR", "another")];
        const REFUSED: &'static [Refused] = &[("p", "there is one port")];
    }

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        passed: PassedOn<Any>,
    }

    fn parsed(words: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from([&["any"], words].concat()).map_err(|error| error.to_string())?;
        Ok(line.passed.into_words().join(" ".as_ref()).into_string().unwrap())
    }

    #[test]
    fn flags_are_passed_on_once_and_values_as_often_as_they_were_given_in_their_order() {
        assert_eq!(parsed(&["-t4t", "-oA=1", "-e", "-", "-o", "-B"]).unwrap(), "-o A=1 -o -B -e - -t -4");
        assert_eq!(parsed(&[]).unwrap(), "");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason_and_not_offered() {
        for words in [&["-p", "22"][..], &["-p22"]] {
            assert!(parsed(words).unwrap_err().contains("there is one port"), "{words:?}");
        }
        assert!(!parsed(&["--help"]).unwrap_err().contains("-p"));
    }
}
