//! The keep-awake lease: a FIFO. As long as any process of the Spark has it open for writing, the Spark is in use:
//! `exec 9>/run/sparks/awake` takes the lease, and the end of the process gives it back, however it ends.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::log;

/// Where the FIFO is.
const PATH: &str = "/run/sparks/awake";

/// Every user of the Spark may take the lease.
const MODE: u32 = 0o666;

/// So many reads are done to empty it in one look; whoever writes more is surely there.
const MOST_READS: usize = 16;

/// The reading end, held for as long as the guest is a computer: a writer that finds no reader would wait.
#[derive(Debug)]
pub struct Awake(OwnedFd);

impl Awake {
    /// Makes and opens the FIFO of the root that this process stands in. Without one (a full disk, something else in
    /// its place) there is no lease, which the log says.
    pub fn open() -> Option<Self> {
        open(Path::new(PATH))
            .map(Self)
            .inspect_err(|error| log::line(format_args!("there is no keep-awake lease: {PATH}: {error}")))
            .ok()
    }

    /// Whether anybody has it open for writing.
    pub fn is_held(&self) -> bool {
        // What is written is of no interest, but must not fill it: a writer would wait.
        let mut void = [0; 4096];
        for _ in 0..MOST_READS {
            match rustix::io::read(&self.0, &mut void) {
                // pipe(7): the end of file is read when nobody has it open for writing.
                Ok(0) => return false,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
        true
    }
}

/// The root belongs to the Spark's user, who may have put anything there; it is opened without waiting for anybody.
fn open(path: &Path) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    match rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(MODE), 0) {
        // The umask took bits away.
        Ok(()) => std::fs::set_permissions(path, PermissionsExt::from_mode(MODE))?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fifo = rustix::fs::open(path, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&fifo)?.st_mode) {
        FileType::Fifo => Ok(fifo),
        _ => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is in its place; remove it")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_lease_is_held_for_as_long_as_somebody_has_it_open_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparks/awake");
        let awake = Awake(open(&path).unwrap());
        assert!(!awake.is_held());
        let mut writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(awake.is_held());
        writer.write_all(b"hello").unwrap();
        assert!(awake.is_held());
        drop(writer);
        assert!(!awake.is_held());
    }

    #[test]
    fn a_fifo_that_a_fork_brought_along_is_used_and_anything_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("awake");
        drop(open(&path).unwrap());
        open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
