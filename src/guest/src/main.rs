//! The only file of the image of a Spark's pod.
//!
//! Without arguments it is PID 1 of that pod: it reaps, supervises the service, receives SSH connections and speaks to
//! the node agent. Its sub-commands are run inside the pod as `/proc/1/exe SUBCOMMAND …`, so that nothing has to be
//! installed in a Spark.

mod archive;
mod arguments;
mod awake;
mod control;
mod enter;
mod fork;
mod idle;
mod launch;
mod log;
mod pid1;
mod processes;
mod readiness;
mod reap;
mod reception;
mod ssh;
mod supervise;
mod sweep;
mod users;

use std::io::Write;
use std::process::ExitCode;

use arguments::Command;

/// musl's own allocator gives the memory of every packet back to the kernel at once.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let command = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => return fail(&error, arguments::USAGE_EXIT),
    };
    match command {
        Command::Pid1 => match pid1::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Command::Enter(options) => {
            let error = enter::enter(options);
            fail(&error, error.exit_code())
        }
        Command::TarOut { paths } => finish(archive::write(&paths, std::io::stdout().lock())),
        Command::TarIn(options) => finish(archive::extract(&options, std::io::stdin().lock())),
        Command::Ssh(entrance) => match ssh::main(entrance) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, ssh::FAILED_EXIT),
        },
        Command::Admit => match ssh::admit::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Command::Sftp(options) => ssh::sftp::main(options),
        Command::Rc { command } => ssh::session::rc::main(command.into_iter()),
        Command::Help => print(arguments::HELP),
        Command::Version => print(concat!("sparks-guest ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// The exit code of an archive command: 1 when anything was left out, which it has said on standard error.
fn finish(result: Result<archive::Outcome, archive::ArchiveError>) -> ExitCode {
    match result {
        Ok(archive::Outcome::Complete) => ExitCode::SUCCESS,
        Ok(archive::Outcome::Incomplete) => ExitCode::FAILURE,
        Err(error) => fail(&error, 1),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sparks-guest: {error}");
    ExitCode::from(code)
}
