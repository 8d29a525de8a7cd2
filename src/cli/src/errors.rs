//! Errors of the command line, and exit codes.

use std::net::SocketAddr;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

/// It did not work.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// Something that was named was not found.
pub const NOT_FOUND: u8 = 3;
/// It took too long.
pub const TIMEOUT: u8 = 4;
/// The name is taken, or somebody else changed the object at the same time.
pub const CONFLICT: u8 = 5;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Result of a verb: its exit code.
pub type Outcome = Result<u8, CliError>;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The cluster, or what is in it.
    #[error(transparent)]
    Client(#[from] spark_client::Error),
    /// A wrong combination of arguments, beyond what the parser finds.
    #[error("{0}")]
    Usage(String),
    /// Neither way leads to the recordings.
    #[error(
        "recordings can't be read by way of the API server ({pods}), nor from the gateway itself: {gateway}"
    )]
    NoRecordings {
        /// Why the API server doesn't pass the question on.
        pods: String,
        /// Why the gateway doesn't answer.
        gateway: Box<CliError>,
    },
    /// A port here.
    #[error(
        "nothing can listen on {place}: {source}; choose another one (LOCAL:PORT), or any that is free (:PORT)"
    )]
    Listen {
        /// Which.
        place: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A local file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The terminal, or a pipe.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Extracting what a Spark sent.
    #[error(transparent)]
    Unpack(#[from] crate::archive::UnpackError),
    /// What the helper in the Spark said.
    #[error("{0}")]
    Remote(String),
    /// An object can't be printed.
    #[error("the object can't be printed as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An object can't be printed.
    #[error("the object can't be printed as YAML: {0}")]
    Yaml(#[from] serde_saphyr::SerializeError),
    /// An own step went wrong; only a bug lets it.
    #[error("spark itself failed: {0}; please report it")]
    Task(#[from] tokio::task::JoinError),
}

impl CliError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        use spark_client::Error as E;
        match self {
            Self::Usage(_) => USAGE,
            Self::Client(error) => match error {
                E::NotFound { .. } | E::NamespaceNotFound(_) | E::NothingTrashed { .. } => NOT_FOUND,
                E::Timeout { .. } => TIMEOUT,
                E::AlreadyExists { .. } | E::Conflict { .. } => CONFLICT,
                _ => FAILED,
            },
            _ => FAILED,
        }
    }

    /// Whether whoever read the output has gone, which is no news to anybody.
    fn is_broken_pipe(&self) -> bool {
        let (Self::Io(error) | Self::Client(spark_client::Error::Io(error))) = self else { return false };
        error.kind() == std::io::ErrorKind::BrokenPipe
    }
}

/// Prints one sentence.
pub fn print(error: &CliError) {
    if !error.is_broken_pipe() {
        let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        anstream::eprintln!("{red}error:{red:#} {error}");
    }
}

/// Prints something that is no error.
pub fn warn(message: &str) {
    let yellow = Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold();
    anstream::eprintln!("{yellow}warning:{yellow:#} {message}");
}

/// Prints one sentence and gives the exit code.
pub fn report(error: &CliError) -> ExitCode {
    print(error);
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spark_client::Error as E;

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let (kind, name, namespace) = ("spark", String::from("x"), String::from("y"));
        let cases = [
            (E::NotFound { kind, name: name.clone(), namespace: namespace.clone() }, NOT_FOUND),
            (E::AlreadyExists { kind, name: name.clone(), namespace }, CONFLICT),
            (E::Timeout { kind, name, after: std::time::Duration::ZERO, step: String::new() }, TIMEOUT),
            (E::Unauthorized, FAILED),
        ];
        for (error, code) in cases {
            assert_eq!(CliError::from(error).exit_code(), code);
        }
        assert_eq!(CliError::Usage(String::new()).exit_code(), USAGE);
    }
}
