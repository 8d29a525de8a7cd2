//! What scp and sftp have in common.

use std::ffi::OsString;

use clap::ArgAction;

use crate::context::Context;
use crate::errors::CliError;
use crate::myself::Myself;
use crate::openssh::{WayArgs, options};

/// Options of both.
#[derive(Debug, clap::Args)]
pub struct TransferArgs {
    /// Copy directories with all that is in them
    #[arg(short = 'r')]
    pub recursive: bool,
    /// Keep times and modes
    #[arg(short = 'p')]
    pub preserve: bool,
    /// Compress on the way
    #[arg(short = 'C')]
    pub compress: bool,
    /// Limit, in Kbit/s
    #[arg(short = 'l', value_name = "LIMIT")]
    pub limit: Option<u64>,
    /// Any other option of ssh_config
    #[arg(short = 'o', value_name = "NAME=VALUE", num_args = 1)]
    pub option: Vec<String>,
    /// Say more about the connection; can be repeated
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// By which way the bytes may go
    #[command(flatten)]
    pub way: WayArgs,
}

impl TransferArgs {
    /// The arguments of either program. What the user says comes first, because with OpenSSH the first value wins.
    pub fn arguments(self, context: &Context, user: &str) -> Result<Vec<OsString>, CliError> {
        let mut all = self.flags(context.quiet);
        let way = self.way.prepare(self.verbose > 0);
        all.extend(options(&Myself::here(&context.options)?, &way));
        all.extend(["-o".into(), format!("User={user}").into()]);
        Ok(all)
    }

    fn flags(&self, quiet: bool) -> Vec<OsString> {
        let flags = [("-r", self.recursive), ("-p", self.preserve), ("-C", self.compress), ("-q", quiet)];
        let mut all: Vec<OsString> =
            flags.iter().filter(|(_, set)| *set).map(|(flag, _)| OsString::from(flag)).collect();
        all.extend((0..self.verbose).map(|_| OsString::from("-v")));
        all.extend(self.limit.iter().flat_map(|limit| ["-l".into(), limit.to_string().into()]));
        all.extend(self.option.iter().flat_map(|option| ["-o".into(), option.into()]));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TransferArgs,
    }

    #[test]
    fn options_are_passed_on_as_scp_and_sftp_know_them() {
        let words = ["scp", "-rp", "-vv", "-l", "800", "-o", "Compression=yes", "-C"];
        let flags = Line::parse_from(words).args.flags(true);
        assert_eq!(flags.join(" ".as_ref()), "-r -p -C -q -v -v -l 800 -o Compression=yes");
    }
}
