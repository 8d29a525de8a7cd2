//! How long a login takes, from the start of ssh to its end.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    route::{ALL, Route, succeed},
    world::World,
};

/// The logins of one way.
pub struct Logins {
    /// The way.
    pub route: Route,
    /// How long each took.
    pub times: Vec<Duration>,
}

/// This many by every way, in turn.
pub fn measure(world: &World, count: usize) -> anyhow::Result<Vec<Logins>> {
    let mut all: Vec<_> = ALL.map(|route| Logins { route, times: Vec::new() }).into();
    for _ in 0..count {
        for logins in &mut all {
            logins.times.push(login(world.ssh(logins.route))?);
        }
    }
    Ok(all)
}

/// `ssh HOST true`.
pub fn login(mut ssh: Command) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    succeed(ssh.arg("true"))?;
    Ok(begin.elapsed())
}
