//! A terminal of our own, in which a program runs.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

/// Longest wait for a byte; it only ends a run that hangs.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The side of a terminal at which a person sits.
pub struct Terminal {
    master: File,
    child: Child,
}

impl Terminal {
    /// Starts a program in a new terminal.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave: OwnedFd = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        // ssh does it too, but later: nothing shall be echoed on this side.
        let mut modes = tcgetattr(&slave)?;
        modes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = command.spawn()?;
        Ok(Self { master: master.into(), child })
    }

    /// Reads until this text has come.
    pub fn until(&mut self, text: &str) -> anyhow::Result<()> {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&seen).contains(text) {
            self.wait().with_context(|| format!("only saw {:?}", String::from_utf8_lossy(&seen)))?;
            let n = self.master.read(&mut buffer).context("the program in the terminal has ended")?;
            seen.extend_from_slice(&buffer[..n]);
        }
        Ok(())
    }

    /// Types a letter and waits for its echo.
    pub fn echo(&mut self, letter: u8) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        self.master.write_all(&[letter])?;
        let mut seen = [0];
        while seen[0] != letter {
            self.wait()?;
            self.master.read_exact(&mut seen)?;
        }
        Ok(begin.elapsed())
    }

    fn wait(&self) -> anyhow::Result<()> {
        let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&PATIENCE))?;
        anyhow::ensure!(ready > 0, "nothing came within {} s", PATIENCE.tv_sec);
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
