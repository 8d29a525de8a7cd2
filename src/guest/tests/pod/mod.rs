//! A pod for tests: the real binary as PID 1 of its own PID and mount namespace, and an agent that dials it from
//! outside of the PID namespace. The network namespace is the test's own, which is how both see the same abstract socket
//! and the same loopback.
#![allow(dead_code, clippy::unwrap_used)]

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sparks_proto::{Computer, FromGuest, Service, ServiceState, SshServer, ToGuest};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running guest; killed with everything in it on drop.
pub struct Pod {
    unshare: Child,
    /// The guest's pid on the host.
    pub guest: i32,
    /// The abstract socket it listens on.
    pub socket: String,
    /// A directory that the host and the pod both see.
    pub scratch: tempfile::TempDir,
}

impl Pod {
    /// Starts a warm guest.
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let socket =
            format!("sparks-guest-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // Terminals of the host are none of the pod's, and neither is what is in its /run. The container runtime may leave
        // a descriptor open, such as 9.
        let exec = "mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 none /dev/pts 2>/dev/null ||
            mount -t devpts -o newinstance,ptmxmode=0666 none /dev/pts
            mount --bind /dev/pts/ptmx /dev/ptmx && mount -t tmpfs none /run && exec \"$0\" 9</dev/null";
        command
            .args(["sh", "-c", exec, env!("CARGO_BIN_EXE_sparks-guest")])
            .env("SPARKS_CONTROL_SOCKET", &socket)
            .stdin(Stdio::null());
        let unshare = command.spawn().unwrap();
        let mut pod = Self { unshare, guest: 0, socket, scratch: tempfile::tempdir().unwrap() };
        pod.guest = eventually("the guest starts", || {
            let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            children(pod.unshare.id().cast_signed())
                .into_iter()
                .find(|pid| name(*pid).trim() == "sparks-guest")
        });
        eventually("the guest listens", || pod.connect());
        pod
    }

    fn connect(&self) -> Option<StdStream> {
        StdStream::connect_addr(&SocketAddr::from_abstract_name(&self.socket).unwrap()).ok()
    }

    /// Dials the guest.
    pub fn dial(&self) -> Agent {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = self.connect().expect("the guest listens");
        stream.set_nonblocking(true).unwrap();
        let stream = runtime.block_on(async { UnixStream::from_std(stream).unwrap() });
        Agent { runtime, stream }
    }

    /// Dials the guest and skips what it says first.
    pub fn greeted(&self) -> Agent {
        let mut agent = self.dial();
        assert!(matches!(agent.next(), Some(FromGuest::Hello { .. })));
        assert!(matches!(agent.next(), Some(FromGuest::Service(_))));
        agent
    }

    /// Swaps the pod's root as the node agent does: for a directory of its own with the host's programs, the file
    /// `/etc/root-name` with that name, and the shared directory as `/shared`. Needs to be root.
    pub fn pivot(&self, name: &str) {
        let root = self.path(name);
        let script = r#"set -e
            shared=$1 root=$2 name=$3
            mkdir -p "$root" && mount --bind "$root" "$root" && cd "$root"
            mkdir -p etc old proc dev usr shared tmp && echo "$name" >etc/root-name
            for link in bin lib lib64 sbin; do ln -s usr/$link $link; done
            for mount in usr proc dev; do mount --rbind /$mount $mount; done
            mount --bind "$shared" shared
            pivot_root . old && cd / && umount -l /old"#;
        // On the host's side of the second pivot the shared directory is at its place in the first root.
        let (shared, root) = match std::fs::metadata(format!("/proc/{}/root/shared", self.guest)) {
            Ok(_) => ("/shared".into(), PathBuf::from("/shared").join(name)),
            Err(_) => (self.scratch.path().to_owned(), root),
        };
        let status = Command::new("nsenter")
            .args(["--target", &self.guest.to_string(), "--pid", "--mount", "sh", "-c", script, "sh"])
            .args([&shared, &root])
            .arg(name)
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    /// A path that the host and the pod both see.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Sends a signal to PID 1 as the container runtime does.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(pid(self.guest), signal).unwrap();
    }

    /// Waits for PID 1 to exit.
    pub fn exit_status(&mut self) -> ExitStatus {
        let unshare = &mut self.unshare;
        eventually("the guest exits", || unshare.try_wait().unwrap())
    }

    /// Host pids of everything that runs in the pod but PID 1. What has ended and waits to be reaped is none of it.
    pub fn others(&self) -> Vec<i32> {
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.guest);
        let runs = |pid: i32| stat(pid).is_some_and(|(state, _)| !matches!(state.as_str(), "Z" | "X"));
        let others = processes().into_iter().filter(|pid| *pid != self.guest && namespace(*pid) == own);
        others.filter(|pid| runs(*pid)).collect()
    }

    /// How many processes have ended and wait for PID 1 to reap them.
    pub fn zombies(&self) -> usize {
        children(self.guest)
            .into_iter()
            .filter(|pid| stat(*pid).is_some_and(|(state, _)| state == "Z"))
            .count()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The node agent's side of a connection.
pub struct Agent {
    runtime: Runtime,
    stream: UnixStream,
}

impl Agent {
    /// Sends a message.
    pub fn send(&mut self, message: &ToGuest) {
        self.runtime.block_on(sparks_proto::write(&mut self.stream, message)).unwrap();
    }

    /// Sends bytes that are no message.
    pub fn send_garbage(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt;
        self.runtime.block_on(self.stream.write_all(bytes)).unwrap();
    }

    /// Makes the guest that computer.
    pub fn run(&mut self, service: Option<Service>) {
        self.run_with(service, None);
    }

    /// Makes the guest that computer, with an SSH server.
    pub fn run_with(&mut self, service: Option<Service>, ssh: Option<SshServer>) {
        self.send(&ToGuest::Run(Computer { hostname: "test".into(), service, ssh }));
    }

    /// The next message; `None` when the guest has hung up.
    pub fn next(&mut self) -> Option<FromGuest> {
        self.runtime.block_on(async {
            let read = sparks_proto::read(&mut self.stream);
            tokio::time::timeout(PATIENCE, read).await.expect("the guest says something").ok()
        })
    }

    /// Skips messages until one fits.
    pub fn until<T>(&mut self, what: &str, mut fits: impl FnMut(&FromGuest) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next().unwrap_or_else(|| panic!("hung up before: {what}"));
            if let Some(found) = fits(&message) {
                return found;
            }
            assert!(Instant::now() < deadline, "did not happen: {what}; last was {message:?}");
        }
    }

    /// Skips messages until a state of the service fits.
    pub fn until_state(&mut self, what: &str, fits: impl Fn(&ServiceState) -> bool) -> ServiceState {
        self.until(what, |message| match message {
            FromGuest::Service(state) if fits(state) => Some(state.clone()),
            _ => None,
        })
    }
}

/// A service that is a shell script.
pub fn script(script: &str) -> Service {
    Service {
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        working_dir: Some("/".into()),
        port: 8080,
        grace_seconds: 5,
        ..Service::default()
    }
}

/// Waits for something that must happen.
pub fn eventually<T>(what: &str, mut happens: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = happens() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a file with a whole line in it and returns its text.
pub fn text(path: &Path) -> String {
    eventually(&format!("{} is written", path.display()), || {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
}

fn pid(raw: i32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(raw).unwrap()
}

fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn children(parent: i32) -> Vec<i32> {
    processes().into_iter().filter(|pid| stat(*pid).is_some_and(|(_, ppid)| ppid == parent)).collect()
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(String, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
