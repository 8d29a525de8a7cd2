//! `sparks-guest ssh` behind a listener as PID 1 has one, and OpenSSH's client. Each connection has a mount namespace with
//! a user database of its own: what is in the home of whoever runs the tests has no part in them.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sparks_proto::SshServer;
use sparks_ssh::transport::PrivateKey;
use sparks_ssh::transport::ssh_key::{LineEnding, private::Ed25519Keypair};

pub mod peer;
pub mod terminal;

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The guest's program.
pub const GUEST: &str = env!("CARGO_BIN_EXE_sparks-guest");

/// A server, and a client's folder. All its connections end with it.
pub struct Sshd {
    /// Where it listens.
    pub port: u16,
    /// The client's keys and files.
    pub folder: tempfile::TempDir,
    /// What the connections are told.
    pub server: SshServer,
    log: Arc<Mutex<File>>,
    ending: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<Child>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Sshd {
    /// A server that lets the key `key` in.
    pub fn start() -> Self {
        Self::with("", |_, _| {})
    }

    /// A server whose connections run `script` first, in their mount namespace and the client's folder, and whose settings
    /// `change` has changed; the folder is there by then, with `key`, `key.pub` and `passwd` in it.
    pub fn with(script: &str, change: impl FnOnce(&mut SshServer, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = new_key(&folder.path().join("key"));
        let home = folder.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let passwd = format!("root:x:0:0::{}:/bin/sh\n", home.display());
        std::fs::write(folder.path().join("passwd"), passwd).unwrap();
        let seed = [7; 32];
        let mut server = SshServer {
            port: 0,
            host_key: "07".repeat(32),
            authorized_keys: vec![format!("{key} test")],
            ..SshServer::default()
        };
        change(&mut server, folder.path());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let host_key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        let known = format!("[127.0.0.1]:{port} {}\n", host_key.public_key().to_openssh().unwrap());
        std::fs::write(folder.path().join("known_hosts"), known).unwrap();
        let log = Arc::new(Mutex::new(File::create(folder.path().join("log")).unwrap()));
        let (ending, connections) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Child>>>::default());
        let acceptor = std::thread::spawn({
            let (server, log) = (server.clone(), log.clone());
            let script = format!("cd {}\nmount --bind passwd /etc/passwd\n{script}", folder.path().display());
            let (ending, connections) = (ending.clone(), connections.clone());
            move || {
                for stream in listener.incoming() {
                    if ending.load(Ordering::SeqCst) {
                        return;
                    }
                    let child = connect(stream.unwrap(), &server, &script, &log.lock().unwrap());
                    connections.lock().unwrap().push(child);
                }
            }
        });
        Self { port, folder, server, log, ending, connections, acceptor: Some(acceptor) }
    }

    /// The client with the key that is let in, for root.
    pub fn client(&self) -> Command {
        self.client_with(&self.path("key"))
    }

    /// The client with another key.
    pub fn client_with(&self, key: &Path) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options(key)).args(["-p", &self.port.to_string(), "127.0.0.1"]);
        ssh.stdin(Stdio::null());
        ssh
    }

    /// Runs a command by SSH.
    pub fn run(&self, command: &str) -> Output {
        self.client().arg(command).output().unwrap()
    }

    /// What it printed, when it succeeded.
    pub fn says(&self, command: &str) -> String {
        printed(&self.run(command))
    }

    /// Options for ssh, scp and sftp.
    pub fn options(&self, key: &Path) -> Vec<String> {
        [
            "StrictHostKeyChecking=yes".into(),
            format!("UserKnownHostsFile={}", self.path("known_hosts").display()),
            "User=root".into(),
            "IdentitiesOnly=yes".into(),
            "IdentityAgent=none".into(),
            "BatchMode=yes".into(),
            "LogLevel=ERROR".into(),
            format!("IdentityFile={}", key.display()),
        ]
        .into_iter()
        .flat_map(|option| ["-o".to_owned(), option])
        .chain(["-F".into(), "none".into()])
        .collect()
    }

    /// A file in the client's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Pids of the connections' processes.
    pub fn connections(&self) -> Vec<u32> {
        self.connections.lock().unwrap().iter().map(Child::id).collect()
    }

    /// Waits until all connections have ended by themselves.
    pub fn all_gone(&self) {
        eventually("all connections end", || {
            let mut connections = self.connections.lock().unwrap();
            connections.iter_mut().all(|child| child.try_wait().unwrap().is_some()).then_some(())
        });
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // The acceptor wakes up to see that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for child in self.connections.lock().unwrap().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Starts the guest for a connection, as PID 1 does.
fn connect(stream: TcpStream, server: &SshServer, script: &str, log: &File) -> Child {
    let mut told = tempfile::tempfile().unwrap();
    serde_json::to_writer(&mut told, server).unwrap();
    told.flush().unwrap();
    told.rewind().unwrap();
    let fd = stream.as_raw_fd();
    let number = fd.to_string();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = format!("{script}\ncd /\nexec {GUEST} ssh --connection {number}");
    command.args(["sh", "-ec", &script]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(told);
    command.stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap());
    // SAFETY: one system call on a descriptor that is open until after the spawn.
    unsafe {
        command.pre_exec(move || {
            rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(fd), rustix::io::FdFlags::empty())?;
            Ok(())
        });
    }
    command.spawn().unwrap()
}

/// Makes a key pair for the client and returns its public half.
pub fn new_key(path: &Path) -> String {
    let mut seed = [0; 32];
    File::open("/dev/urandom").unwrap().read_exact(&mut seed).unwrap();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.write_openssh_file(path, LineEnding::LF).unwrap();
    let public = key.public_key().to_openssh().unwrap();
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    std::fs::write(name, format!("{public}\n")).unwrap();
    public
}

/// Standard output of a command that must have succeeded.
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, complaints(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error.
pub fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
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
