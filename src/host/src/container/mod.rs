//! From a container ID to its init process, and into its namespaces.
//!
//! A process ID can be reused, so every [`Container`] holds a pidfd (pidfd_open(2)): what is read from
//! `/proc/<pid>` counts only if the pidfd's process is still alive afterwards, because as long as it lives nobody
//! else can have that number.

mod find;
mod socket;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use crate::btrfs::{self, FilesystemId, SubvolumeId};
use crate::copy::IdMap;
use crate::safe_path::{HostileRoot, SafePathError};

/// Why a container could not be found or talked to.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Not the form of a container ID.
    #[error("{0:?} is not a container ID (12 to 64 lower-case hexadecimal digits, without containerd://)")]
    BadId(String),
    /// No process is the init of this container.
    #[error("container {0} has no init process on this node; it ended, or the agent runs without hostPID")]
    NotFound(String),
    /// Several processes claim to be it.
    #[error("container {id} has several init processes: {pids:?}; refusing to guess")]
    Ambiguous {
        /// The container.
        id: String,
        /// The candidates.
        pids: Vec<i32>,
    },
    /// The init process ended.
    #[error("container {0} ended")]
    Gone(String),
    /// Somebody else than the container's init listens on the socket.
    #[error(
        "socket @{name} in container {id} belongs to process {found}, not to its init process {expected}"
    )]
    WrongPeer {
        /// The container.
        id: String,
        /// Name of the abstract socket.
        name: String,
        /// The init process.
        expected: i32,
        /// Who listens.
        found: i32,
    },
    /// A path below the container's root.
    #[error("container {id}: {source}")]
    Path {
        /// The container.
        id: String,
        /// What and why.
        source: SafePathError,
    },
    /// A system call failed.
    #[error("container {id}: cannot {action}: {source}")]
    System {
        /// The container.
        id: String,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

type Result<T, E = ContainerError> = std::result::Result<T, E>;

/// A subvolume that a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootSubvolume {
    /// The filesystem.
    pub filesystem: FilesystemId,
    /// The subvolume.
    pub id: SubvolumeId,
}

/// A running container: its init process.
#[derive(Debug)]
pub struct Container {
    id: String,
    pid: Pid,
    pidfd: OwnedFd,
    start_time: u64,
}

impl Container {
    /// Finds the init process of a container by its ID, on cgroup v1 and v2, with either cgroup driver.
    ///
    /// # Errors
    /// [`ContainerError::NotFound`] if there is none.
    pub fn find(id: &str) -> Result<Self> {
        find::find(id)
    }

    /// The container whose init process is `pid`. `id` is only a name for errors.
    ///
    /// # Errors
    /// [`ContainerError::Gone`] if there is no such process.
    pub fn of_process(id: &str, pid: i32) -> Result<Self> {
        let gone = || ContainerError::Gone(id.to_owned());
        let pid = Pid::from_raw(pid).ok_or_else(gone)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        let start_time = find::start_time(pid.as_raw_pid()).ok_or_else(gone)?;
        let container = Self { id: id.to_owned(), pid, pidfd, start_time };
        container.check_alive()?;
        Ok(container)
    }

    /// The container's ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its init process as the host sees it.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// When the init process was started, in clock ticks since boot: with the PID, the identity of this run.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Whether the init process still runs.
    pub fn is_alive(&self) -> bool {
        matches!(self.poll(Duration::ZERO), Ok(false))
    }

    /// Waits until the init process has ended; false if it still runs after `timeout`.
    pub fn wait_gone(&self, timeout: Duration) -> Result<bool> {
        self.poll(timeout).map_err(self.because("wait for its end"))
    }

    /// A pidfd is readable once its process has ended.
    fn poll(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        Ok(rustix::event::poll(&mut fds, Some(&timeout))? > 0)
    }

    pub(crate) fn check_alive(&self) -> Result<()> {
        if self.is_alive() { Ok(()) } else { Err(ContainerError::Gone(self.id.clone())) }
    }

    fn because(&self, action: &'static str) -> impl FnOnce(io::Error) -> ContainerError {
        let id = self.id.clone();
        move |source| ContainerError::System { id, action, source }
    }

    fn proc_path(&self, entry: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{entry}", self.pid()))
    }

    /// Opens one of the container's namespaces (`user`, `mnt`, `net`, `uts`).
    pub fn namespace(&self, kind: &str) -> Result<OwnedFd> {
        let namespace = File::open(self.proc_path(&format!("ns/{kind}")));
        let namespace = namespace.map_err(self.because("open a namespace"))?;
        self.check_alive()?;
        Ok(namespace.into())
    }

    /// Opens the container's present root directory. What is below is hostile: see
    /// [`HostileRoot`].
    pub fn root(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.proc_path("root"), flags, Mode::empty());
        let root = root.map_err(|error| self.because("open its root")(error.into()))?;
        self.check_alive()?;
        Ok(root)
    }

    /// Opens a directory in the container for reading, for example the mount of an OCI image volume. No symbolic link
    /// is followed.
    pub fn open_dir(&self, path: &str) -> Result<OwnedFd> {
        let root = self.root()?;
        let relative = path.trim_matches('/');
        let place = HostileRoot::with_mounts(root.as_fd()).open_dir(relative).map_err(self.path_error())?;
        let missing = || self.because("open the directory")(io::ErrorKind::NotFound.into());
        let place = place.ok_or_else(missing)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(place, ".", flags, Mode::empty())
            .map_err(|error| self.because("open the directory")(error.into()))
    }

    /// Reads a file of the container's present root, for example `/etc/resolv.conf`; `None` if there is none. No
    /// symbolic link is followed. `max` is in bytes.
    pub fn read_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let root = self.root()?;
        let root = HostileRoot::with_mounts(root.as_fd());
        root.read_file(path.trim_start_matches('/'), max).map_err(self.path_error())
    }

    fn path_error(&self) -> impl FnOnce(SafePathError) -> ContainerError {
        let id = self.id.clone();
        move |source| ContainerError::Path { id, source }
    }

    /// The btrfs subvolume that the container's root is, if it is one. A fresh container stands in its image, which
    /// may be on some btrfs too: compare the filesystem with the pool's.
    pub fn root_subvolume(&self) -> Result<Option<RootSubvolume>> {
        let root = self.root()?;
        if !btrfs::is_btrfs(&root) {
            return Ok(None);
        }
        let identify = || {
            Ok(RootSubvolume { filesystem: btrfs::filesystem_id(&root)?, id: btrfs::subvolume_id(&root)? })
        };
        let identity: Result<_, btrfs::BtrfsError> = identify();
        identity.map(Some).map_err(|error| self.because("identify its root")(io::Error::other(error)))
    }

    /// How the container's user namespace maps IDs, to undo the mapping of an ID-mapped mount in it.
    pub fn id_map(&self) -> Result<IdMap> {
        let read =
            |name| std::fs::read_to_string(self.proc_path(name)).map_err(self.because("read its ID map"));
        let map = IdMap::parse(&read("uid_map")?, &read("gid_map")?);
        self.check_alive()?;
        Ok(map)
    }

    /// As [`Container::enter`], for work that has more to do after its answer, which it gives to the function that it is
    /// called with.
    pub(crate) fn enter_for_answer<T: Send + 'static>(
        &self,
        namespaces: ThreadNameSpaceType,
        work: impl FnOnce(&dyn Fn(T)) + Send + 'static,
    ) -> io::Result<T> {
        let pidfd = self.pidfd.try_clone()?;
        let (sender, answer) = mpsc::channel();
        let run = move || {
            // Who asked may have panicked.
            let tell = |answer| drop(sender.send(answer));
            match enter_namespaces(pidfd.as_fd(), namespaces) {
                Ok(()) => work(&|answer| tell(Ok(answer))),
                Err(error) => tell(Err(error)),
            }
        };
        std::thread::Builder::new().name("in-pod".into()).spawn(run)?;
        answer.recv().unwrap_or_else(|_| Err(io::Error::other("the thread in the pod gave no answer")))
    }

    /// Runs `work` on a thread of its own inside namespaces of the container. The thread ends with it, so no other
    /// code ever runs there.
    pub(crate) fn enter<T: Send>(
        &self,
        namespaces: ThreadNameSpaceType,
        work: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        let pidfd = self.pidfd.as_fd();
        let run = move || -> io::Result<T> {
            enter_namespaces(pidfd, namespaces)?;
            Ok(work())
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("in-pod".into()).spawn_scoped(scope, run)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// setns(2) into a mount namespace is refused to a thread that shares its root and working directory.
fn enter_namespaces(pidfd: BorrowedFd<'_>, namespaces: ThreadNameSpaceType) -> io::Result<()> {
    // SAFETY: only CLONE_FS is unshared; file descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    Ok(rustix::thread::move_into_thread_name_spaces(pidfd, namespaces)?)
}
