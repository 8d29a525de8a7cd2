//! `spark forward`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, TcpListener};

use clap_complete::engine::ArgValueCandidates;

use super::refuse_unrecorded;
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::myself::Myself;
use crate::openssh::{WayArgs, become_program, options};
use crate::parse;

/// Reach ports of a Spark at ports here, also those that only listen on its loopback.
///
/// It goes on until Ctrl-C. As many connections at once as you like; a slow one holds up no other.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// [LOCAL:]PORT; an empty LOCAL (:PORT) takes any free port
    #[arg(required = true, value_name = "PORTS", value_parser = ports)]
    pub ports: Vec<Ports>,
    /// Address here on which to listen
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// By which way the bytes may go
    #[command(flatten)]
    pub way: WayArgs,
}

/// A port here and one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Where whoever connects is; any when 0.
    pub near: u16,
    /// Where the connection goes.
    pub far: u16,
}

/// `PORT`, `NEAR:PORT` or `:PORT`.
pub fn ports(text: &str) -> Result<Ports, String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("write PORT or LOCAL:PORT, such as 8080 or 9000:8080".to_owned()),
    };
    match text.split_once(':') {
        Some(("", far)) => Ok(Ports { near: 0, far: port(far)? }),
        Some((near, far)) => Ok(Ports { near: port(near)?, far: port(far)? }),
        None => port(text).map(|port| Ports { near: port, far: port }),
    }
}

/// Becomes ssh.
pub async fn run(context: &Context, args: Args) -> Outcome {
    refuse_unrecorded(&context.sparks.get(&args.name).await?, &context.sparks)?;
    let mut all: Vec<OsString> = ["-N", "-T", "-o", "ExitOnForwardFailure=yes"].map(Into::into).into();
    for (near, far) in free(args.address, &args.ports)? {
        all.extend(["-L".into(), format!("{near}:localhost:{far}").into()]);
        context.say(&format!("Forwarding from {near} -> {far} in {}", args.name))?;
    }
    all.extend(options(&Myself::here(&context.options)?, &args.way.prepare(false)));
    all.extend(["-l".into(), "root".into(), args.name.into()]);
    Err(become_program("ssh", &all))
}

/// Where to listen here, on ports that nothing listens on, and the ports there.
fn free(address: IpAddr, ports: &[Ports]) -> Result<Vec<(SocketAddr, u16)>, CliError> {
    let listen = |ports: &Ports| {
        let place = SocketAddr::new(address, ports.near);
        let listener = TcpListener::bind(place).map_err(|source| CliError::Listen { place, source })?;
        Ok((listener, ports.far))
    };
    // All at once, so that no two get the same one. ssh takes them over from here.
    let all: Vec<(TcpListener, u16)> = ports.iter().map(listen).collect::<Result<_, CliError>>()?;
    all.iter().map(|(listener, far)| Ok((listener.local_addr()?, *far))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_that_is_taken_is_told_in_one_sentence() {
        let taken = TcpListener::bind((HERE, 0)).unwrap();
        let near = taken.local_addr().unwrap().port();
        let error = free(HERE, &[Ports { near: 0, far: 80 }, Ports { near, far: 80 }]).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("nothing can listen on 127.0.0.1:{near}: ")),
            "{error}"
        );
        assert_eq!(error.exit_code(), 1);
        drop(taken);
        assert_eq!(free(HERE, &[Ports { near, far: 80 }]).unwrap(), [((HERE, near).into(), 80)]);
    }

    #[test]
    fn every_free_port_is_another_one() {
        let all = free(HERE, &[Ports { near: 0, far: 80 }; 20]).unwrap();
        let different: std::collections::BTreeSet<_> = all.iter().map(|(near, _)| near.port()).collect();
        assert_eq!(different.len(), 20);
    }

    #[test]
    fn ports_are_written_as_with_kubectl() {
        assert_eq!(ports("80"), Ok(Ports { near: 80, far: 80 }));
        assert_eq!(ports("8080:80"), Ok(Ports { near: 8080, far: 80 }));
        assert_eq!(ports(":80"), Ok(Ports { near: 0, far: 80 }));
        for text in ["", "0", "a", "1:2:3", "80:", "70000", "-1"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }
}
