//! Open files and directories.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::fs::Dir;
use rustix::io::Errno;

use super::status::{Refusal, Status};

/// Most handles, however many files the process may open: a read directory has a buffer of 32 KiB.
const MAX_HANDLES: usize = 4096;

/// Files that are open besides: standard input and output, and what a request opens for itself.
const RESERVED: u64 = 8;

/// What a handle stands for.
#[derive(Debug)]
enum Open {
    File(OwnedFd),
    Directory(Dir),
}

/// All handles of the session. A handle is the place of its entry, as with OpenSSH.
#[derive(Debug)]
pub struct Handles {
    entries: Vec<Option<Open>>,
    limit: usize,
}

impl Handles {
    /// For a process that may have `files` open.
    pub fn new(files: Option<u64>) -> Self {
        let files = files.map_or(usize::MAX, |files| {
            usize::try_from(files.saturating_sub(RESERVED)).unwrap_or(usize::MAX)
        });
        Self { entries: Vec::new(), limit: files.clamp(1, MAX_HANDLES) }
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn add_file(&mut self, file: OwnedFd) -> Result<[u8; 4], Refusal> {
        self.add(Open::File(file))
    }

    pub fn add_directory(&mut self, directory: Dir) -> Result<[u8; 4], Refusal> {
        self.add(Open::Directory(directory))
    }

    fn add(&mut self, open: Open) -> Result<[u8; 4], Refusal> {
        let place = match self.entries.iter().position(Option::is_none) {
            Some(place) => place,
            None if self.entries.len() < self.limit => {
                self.entries.push(None);
                self.entries.len() - 1
            }
            None => return Err(Refusal::Kernel(Errno::MFILE)),
        };
        self.entries[place] = Some(open);
        u32::try_from(place).map(u32::to_be_bytes).map_err(|_| Refusal::Status(Status::Failure))
    }

    /// The file of a handle; none if it is a directory's, or nothing's.
    pub fn file(&self, handle: &[u8]) -> Option<BorrowedFd<'_>> {
        match self.entries.get(place(handle)?)?.as_ref()? {
            Open::File(file) => Some(file.as_fd()),
            Open::Directory(_) => None,
        }
    }

    pub fn directory(&mut self, handle: &[u8]) -> Option<&mut Dir> {
        match self.entries.get_mut(place(handle)?)?.as_mut()? {
            Open::Directory(directory) => Some(directory),
            Open::File(_) => None,
        }
    }

    /// Closes, and says so if the file system only now finds that it has no room for what was written.
    pub fn close(&mut self, handle: &[u8]) -> Result<(), Refusal> {
        match place(handle).and_then(|place| self.entries.get_mut(place)).and_then(Option::take) {
            Some(Open::File(file)) => Ok(close(file)?),
            Some(Open::Directory(_)) => Ok(()),
            None => Err(Refusal::Status(Status::NoSuchFile)),
        }
    }
}

/// close(2) with its result, which dropping an [`OwnedFd`] throws away.
fn close(file: OwnedFd) -> rustix::io::Result<()> {
    // SAFETY: the descriptor was owned and is given up here, so that nobody closes it again.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

fn place(handle: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(handle.try_into().ok()?)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_handle_that_was_not_given_or_was_closed_stands_for_nothing() {
        let mut handles = Handles::new(None);
        let handle = handles.add_file(file()).unwrap();
        assert!(handles.file(&handle).is_some());
        assert!(handles.directory(&handle).is_none());
        for wrong in [&b""[..], b"a", &[0, 0, 0, 1], &[0, 0, 0, 0, 0], &[255; 4]] {
            assert!(handles.file(wrong).is_none());
            assert!(handles.close(wrong).is_err());
        }
        handles.close(&handle).unwrap();
        assert!(handles.file(&handle).is_none());
        assert!(handles.close(&handle).is_err());
    }

    #[test]
    fn there_are_no_more_handles_than_the_limit_and_closed_ones_are_used_again() {
        let mut handles = Handles::new(Some(RESERVED + 2));
        let first = handles.add_file(file()).unwrap();
        handles.add_file(file()).unwrap();
        assert!(handles.add_file(file()).is_err());
        handles.close(&first).unwrap();
        assert_eq!(handles.add_file(file()).unwrap(), first);
    }
}
