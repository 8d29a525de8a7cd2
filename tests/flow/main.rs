//! The whole played in memory: the real planners of controller and node agent, an API server, a clock, and users, in one
//! process and from a seed. After each step the rules of the whole are checked.
//!
//! `SPARKS_SEED=N cargo test -p sparks-tests --test flow` plays another one.

#![allow(dead_code, reason = "faults are planted by hand so far")]

mod api;
mod controller;
mod fault;
mod machine;
mod script;
mod server;
mod world;

use std::time::Duration;

use fault::Fault;
use world::World;

/// Steps of chance in one.
const STEPS: usize = 150;

/// Plays one history; answers the rule that it broke.
fn history(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let mut world = World::new(
        seed,
        1 + usize::from(seed.is_multiple_of(2)),
        1 + usize::from(seed.is_multiple_of(3)),
        fault,
    );
    for _ in 0..STEPS {
        world.step(true);
        world.check()?;
    }
    world.settle(Duration::from_secs(4 * 3600))?;
    world.check_rest()
}

/// Kinds of histories, and one that found a claimed pod on another node than the disks (45).
const SEEDS: [u64; 6] = [0, 1, 2, 3, 5, 45];

#[test]
fn no_history_breaks_a_rule_and_every_one_comes_to_rest() {
    let asked = std::env::var("SPARKS_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in asked.map_or(SEEDS.to_vec(), |seed| vec![seed]) {
        assert_eq!(history(seed, None), Ok(()), "seed {seed}");
    }
}
