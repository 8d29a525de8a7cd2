//! The verbs, one file each.

pub mod checkpoint;
pub mod completion;
pub mod cp;
pub mod exec;
pub mod fork;
pub mod logs;
pub mod ls;
pub mod new;
pub mod pool;
pub mod restore;
pub mod rm;
pub mod sessions;
pub mod show;
pub mod ssh;
pub mod start;
pub mod stop;
pub mod top;
pub mod undelete;
pub mod url;
pub mod verify;
pub mod version;

use crate::cli::{Cli, Verb};
use crate::context::Context;
use crate::errors::Outcome;

/// Does what the command line says.
pub async fn run(cli: Cli) -> Outcome {
    // What needs no cluster must work without one.
    match &cli.verb {
        Verb::Completion(args) => return completion::run(args),
        Verb::Version(args) => return version::run(&cli.global, args).await,
        _ => {}
    }
    let context = &Context::connect(&cli.global).await?;
    match cli.verb {
        Verb::New(args) => new::run(context, *args).await,
        Verb::Fork(args) => fork::run(context, args).await,
        Verb::Checkpoint(args) => checkpoint::run(context, args).await,
        Verb::Restore(args) => restore::run(context, args).await,
        Verb::Ls(args) => ls::run(context, args).await,
        Verb::Show(args) => show::run(context, args).await,
        Verb::Exec(args) => exec::run(context, args).await,
        Verb::Logs(args) => logs::run(context, args).await,
        Verb::Cp(args) => cp::run(context, args).await,
        Verb::Sessions(args) => sessions::run(context, args).await,
        Verb::Ssh(args) => ssh::shell::run(context, *args).await,
        Verb::SshProxy(args) => ssh::proxy::run(context, args).await,
        Verb::SshKnownHosts(args) => ssh::known_hosts::run(context, args).await,
        Verb::SshConfig(args) => ssh::config::run(context, args).await,
        Verb::Scp(args) => ssh::scp::run(context, args).await,
        Verb::Sftp(args) => ssh::sftp::run(context, args).await,
        Verb::Forward(args) => ssh::forward::run(context, args).await,
        Verb::Tunnel(args) => ssh::tunnel::run(context, args).await,
        Verb::Stop(args) => stop::run(context, args).await,
        Verb::Start(args) => start::run(context, args).await,
        Verb::Rm(args) => rm::run(context, args).await,
        Verb::Undelete(args) => undelete::run(context, args).await,
        Verb::Pool(args) => pool::run(context, args).await,
        Verb::Top(args) => top::run(context, args).await,
        Verb::Url(args) => url::run(context, args).await,
        Verb::Verify(args) => verify::run(context, args).await,
        Verb::Completion(_) | Verb::Version(_) => Ok(0),
    }
}
