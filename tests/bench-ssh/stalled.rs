//! Clients that ask for endless data and don't read it.

use std::{process::Stdio, thread::sleep, time::Duration};

use crate::{
    process::{GATEWAY, GUEST, Running, memory},
    route::Route,
    world::World,
};

/// How many of them there are.
const CLIENTS: usize = 20;
/// When the memory is looked at: if it were unbounded, it would have grown by gigabytes in between.
const LOOKS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];

/// How a client doesn't read.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// ssh runs, but nobody takes what it prints: the channel's window is used up.
    Window,
    /// ssh itself is stopped: the connection's buffers are full.
    Socket,
}

/// Growth of all processes together, in KiB.
pub struct Growth {
    /// The manner.
    pub manner: Manner,
    /// How many clients.
    pub clients: usize,
    /// The gateway's, early and late.
    pub gateway: [i64; 2],
    /// The guests', early and late.
    pub guests: [i64; 2],
}

/// Both manners.
pub fn measure(world: &World) -> anyhow::Result<Vec<Growth>> {
    [Manner::Window, Manner::Socket].into_iter().map(|manner| grow(world, manner)).collect()
}

fn grow(world: &World, manner: Manner) -> anyhow::Result<Growth> {
    let before = sizes()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut ssh = world.ssh(Route::Gateway);
        ssh.args(["cat", "/dev/zero"]).stdin(Stdio::null());
        match manner {
            Manner::Window => ssh.stdout(Stdio::piped()),
            Manner::Socket => ssh.stdout(Stdio::null()),
        };
        clients.push(Running::start(&mut ssh)?);
        sleep(Duration::from_millis(100));
    }
    if let Manner::Socket = manner {
        clients.iter().try_for_each(Running::stop)?;
    }
    sleep(LOOKS[0]);
    let early = sizes()?;
    sleep(LOOKS[1] - LOOKS[0]);
    let late = sizes()?;
    Ok(Growth {
        manner,
        clients: CLIENTS,
        gateway: [early[0] - before[0], late[0] - before[0]],
        guests: [early[1] - before[1], late[1] - before[1]],
    })
}

fn sizes() -> anyhow::Result<[i64; 2]> {
    Ok([i64::try_from(memory(GATEWAY)?.resident)?, i64::try_from(memory(GUEST)?.anonymous)?])
}
