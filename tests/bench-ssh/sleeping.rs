//! How long a login into a Spark takes that sleeps.

use std::time::Duration;

use sparks_tests::get_spark;

use crate::{logins::login, world::World};

/// Wakes by ssh.
pub struct Wakes {
    /// From the start of `ssh NAME true` to its end.
    pub total: Vec<Duration>,
    /// Of it: from the wish to the attached disks, as the Spark's status has it.
    pub controller: Vec<Duration>,
}

/// This many, with a warm pod each.
pub fn measure(world: &World, count: usize) -> anyhow::Result<Wakes> {
    let mut wakes = Wakes { total: Vec::new(), controller: Vec::new() };
    for _ in 0..count {
        world.until_asleep("sleeper");
        wakes.total.push(login(world.ssh_to("sleeper"))?);
        let timings = get_spark(world.namespace(), "sleeper")["status"]["timings"].clone();
        anyhow::ensure!(timings["warm"] == true, "the Spark found no warm pod: {timings}");
        let micros =
            ["claimMicros", "snapshotMicros", "attachMicros"].map(|key| timings[key].as_u64().unwrap_or(0));
        wakes.controller.push(Duration::from_micros(micros.iter().sum()));
    }
    Ok(wakes)
}
