//! `walls`: the rules between rooms that the compiler doesn't know.
//!
//! [`edges`] has the table of who may import whom, [`sources`] what may be written where and how long files may be, [`ours`] that
//! no file is somebody else's.

mod edges;
mod ours;
mod sources;

use std::path::Path;

/// Fails with the list of all broken rules.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut broken = edges::check(root)?;
    broken.extend(sources::check(root)?);
    broken.extend(ours::check(root)?);
    anyhow::ensure!(broken.is_empty(), "{} broken:\n  {}", broken.len(), broken.join("\n  "));
    println!("the walls stand");
    Ok(())
}
